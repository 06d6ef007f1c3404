"""The four jobs through real spark-submit on a small generated log: three nights, their evaluation, and failures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

import generated_log as generated

ROOT = Path(__file__).parents[2]
FIRST = generated.FIRST_DAY + timedelta(days=50)
NIGHTS = [FIRST + timedelta(days=n) for n in range(3)]
# These jobs take seconds: the time that the JVM's second compiler and its parallel collector cost never comes back.
SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
LAST = generated.FIRST_DAY + timedelta(days=generated.DAYS)
NEXT = LAST + timedelta(days=1)


@dataclass(frozen=True)
class Demo:
    """A folder with a raw log, a config and a warehouse."""

    folder: Path

    @property
    def nights(self) -> Path:
        """Where the links of the published nights are."""
        return self.folder / "warehouse" / "_nights"

    def links(self) -> list[Path]:
        """What every published night points to."""
        return sorted(path.readlink() for path in self.nights.glob("*/*"))

    def submit(self, job: str, as_of: object, *overrides: str) -> tuple[int, str]:
        """Run one job by spark-submit; returns its exit code and what it showed."""
        sets = [word for override in overrides for word in ("--set", override)]
        done = subprocess.run(
            [ROOT / "scripts/submit", job, "--config", self.folder / "config.yaml", "--as-of", str(as_of), *sets],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={
                **os.environ,
                "HALFLIFE_LOGS": str(self.folder / "logs"),
                "HALFLIFE_MASTER": "local[2]",
                "HALFLIFE_JAVA_OPTIONS": SHORT_LIVED,
            },
        )
        return done.returncode, done.stdout + done.stderr

    def succeed(self, job: str, as_of: object, *overrides: str) -> str:
        code, shown = self.submit(job, as_of, *overrides)
        assert code == 0, shown
        return shown

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Rows of a query in which {table} stands for its files: as a reader without halflife sees them."""
        return duckdb.sql(query.replace("{", f"'{self.folder}/warehouse/").replace("}", "/*.parquet'")).fetchall()

    def manifest(self, job: str, as_of: object) -> dict[str, dict[str, object]]:
        path = self.nights / job / f"as_of={as_of}" / "manifest.json"
        found: dict[str, dict[str, object]] = json.loads(path.read_text())
        return found


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated log."""
    folder = tmp_path_factory.mktemp("raw")
    generated.write(folder)
    return folder


def new_demo(raw: Path, tmp_path_factory: pytest.TempPathFactory, name: str) -> Demo:
    made = Demo(tmp_path_factory.mktemp(name))
    (made.folder / "config.yaml").write_text(generated.CONFIG.format(raw=raw))
    return made


@dataclass(frozen=True)
class Beside:
    """Chains that run beside the main one, since a small job leaves half of two cores idle."""

    plain: Future[Demo]
    one_go: Future[Demo]


@pytest.fixture(scope="module")
def beside(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    plain, one_go = (new_demo(raw, tmp_path_factory, name) for name in ("plain", "one_go"))

    def score_without_model_or_catalogues() -> Demo:
        for job in ("sessionize", "score"):
            plain.succeed(job, NIGHTS[0], "users=null", "items=null")
        return plain

    def sessionize_in_one_go() -> Demo:
        one_go.succeed("sessionize", NIGHTS[2])
        return one_go

    with ThreadPoolExecutor(1) as pool:
        yield Beside(pool.submit(score_without_model_or_catalogues), pool.submit(sessionize_in_one_go))


@pytest.fixture(scope="module")
def demo(raw: Path, beside: Beside, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The whole chain, once: history, training, three nights one by one, the days after, evaluation."""
    made = new_demo(raw, tmp_path_factory, "demo")
    made.succeed("sessionize", NIGHTS[0])
    made.succeed("train", NIGHTS[0])
    made.succeed("score", NIGHTS[0])
    for night in NIGHTS[1:]:
        made.succeed("sessionize", night)
        made.succeed("score", night)
    made.succeed("sessionize", LAST)
    made.succeed("evaluate", LAST)
    return made


def test_every_input_row_is_accepted_quarantined_or_a_duplicate(demo: Demo) -> None:
    ((read, accepted, quarantined, duplicates),) = demo.rows(
        "SELECT sum(rows_read), sum(accepted), sum(quarantined), sum(duplicates) FROM {intake/*}"
    )
    events = generated.events(seed=11)
    assert demo.rows(f"SELECT count(*) FROM {{events/as_of={LAST}}}") == [(accepted,)]
    assert demo.rows("SELECT reason, count(*) FROM {quarantine/*} GROUP BY ALL ORDER BY ALL") == [
        ("missing_user", 1),
        ("unknown_event_type", 1),
    ]
    assert (quarantined, duplicates) == (2, 1)
    assert read == accepted + quarantined + duplicates  # type: ignore[operator]
    assert demo.rows(f"SELECT count(*) FROM {{events/as_of={LAST}}} WHERE event_type = 'purchase'") == [(len(events),)]


@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_every_pair_has_one_score_below_one(demo: Demo, night: object) -> None:
    pairs = generated.USERS * (generated.ITEMS + 1)
    assert demo.rows(
        "SELECT count(*), count(DISTINCT (user_id, item_id)), count(score), count(affinity), count(memory), "
        f"count_if(score >= 0 AND score < 1) FROM {{scores/as_of={night}}}"
    ) == [(pairs,) * 6]
    assert demo.rows(f"SELECT DISTINCT count(*) FROM {{recommendations/as_of={night}}} GROUP BY user_id") == [(20,)]


def test_the_parts_of_a_score_add_up(demo: Demo) -> None:
    ((worst,),) = demo.rows(
        f"SELECT max(abs(score - (1 - exp(-greatest(affinity + memory, 0))))) FROM {{scores/as_of={NIGHTS[2]}}}"
    )
    assert worst < 1e-6  # type: ignore[operator]


@pytest.mark.parametrize("night", NIGHTS[1:], ids=str)
def test_exactly_the_users_with_new_events_are_encoded(demo: Demo, night: object) -> None:
    of_night = f"event_time >= '{night}'::TIMESTAMPTZ - INTERVAL 1 DAY"
    ((active,),) = demo.rows(f"SELECT count(DISTINCT user_id) FROM {{events/as_of={night}}} WHERE {of_night}")
    ((known,),) = demo.rows(f"SELECT count(*) FROM {{sequences/as_of={night}}}")
    figures = demo.manifest("score", night)["metrics"]
    assert 0 < active < known  # type: ignore[operator]
    assert figures["encoded"] == active
    assert figures["skipped"] == known - active  # type: ignore[operator]


@pytest.fixture(scope="module")
def rebuilt(demo: Demo, beside: Beside) -> Demo:
    """The third night in one go, in a warehouse of its own, with the model of the first night."""
    made = beside.one_go.result()
    shutil.copytree(demo.nights / "train", made.nights / "train", symlinks=True)
    (run,) = (demo.folder / "warehouse" / "_runs").glob("train-*")
    shutil.copytree(run, made.folder / "warehouse" / "_runs" / run.name)
    made.succeed("score", NIGHTS[2])
    return made


@pytest.mark.parametrize("table", ["events", "sequences", "sessions", "memory", "user_states"])
def test_nights_one_by_one_equal_one_rebuild(demo: Demo, rebuilt: Demo, table: str) -> None:
    orders = {
        "events": "user_index, event_time, event_id",
        "sessions": "session_id",
        "memory": "user_index, item_index",
    }
    order = orders.get(table, "user_index")
    query = f"SELECT * FROM {{{table}/as_of={NIGHTS[2]}}} ORDER BY {order}"
    rows = demo.rows(query)
    assert len(rows) > generated.USERS / 2
    assert rows == rebuilt.rows(query)


def test_scores_of_nights_one_by_one_equal_those_of_one_rebuild(demo: Demo, rebuilt: Demo) -> None:
    query = f"SELECT user_id, item_id, score FROM {{scores/as_of={NIGHTS[2]}}} ORDER BY ALL"
    assert demo.rows(query) == rebuilt.rows(query)


def test_the_tuned_half_life_is_the_one_of_the_log(demo: Demo) -> None:
    assert demo.manifest("evaluate", LAST)["metrics"]["tuned_half_life_days"] == generated.HALF_LIFE_DAYS


def test_the_model_beats_popularity_and_is_calibrated(demo: Demo) -> None:
    values = {
        (model, metric): value
        for model, metric, value in demo.rows(
            f"SELECT model, metric, value FROM {{metrics/as_of={LAST}}} "
            f"WHERE night = '{NIGHTS[0]}' AND segment = 'all' AND baseline IS NULL"
        )
    }
    assert values["halflife", "ndcg@10"] > 1.5 * values["popularity", "ndcg@10"]  # type: ignore[operator]
    assert values["halflife", "log_loss"] < values["constant_rate", "log_loss"]  # type: ignore[operator]
    assert values["halflife", "auc"] > 0.75  # type: ignore[operator]


def test_a_rerun_of_a_night_is_nothing_to_do(demo: Demo) -> None:
    for job in ("sessionize", "score"):
        before = demo.manifest(job, NIGHTS[2])
        assert "nothing to do" in demo.succeed(job, NIGHTS[2])
        assert demo.manifest(job, NIGHTS[2]) == before


BROKEN = "broken.parquet"
ELSEWHERE = "warehouse=elsewhere"  # nothing is published there
FAILURES = {
    "bad key": ("score", FIRST, ["score.topn=5"], 2, "score.topn: unknown key (did you mean top_n?)"),
    "bad date": ("score", "yesterday", [], 2, "'yesterday' is no day; write it as 2017-12-01"),
    "later nights stand": ("sessionize", FIRST, ["sessionize.gap_seconds=60"], 2, f"--from {FIRST} --as-of {LAST}"),
    "types reordered": (
        "sessionize",
        NEXT,
        ["event_types={view: {weight: 1}, purchase: {weight: 1}}"],
        2,
        "purchase, view, in this order",
    ),
    "night not sessionized": ("score", NEXT, [], 3, "events: no night"),
    "missing day": ("sessionize", LAST + timedelta(days=9), [], 3, f"no file for {LAST} at"),
    "missing file": ("sessionize", NEXT, ["sources.purchases.path=nowhere/*.parquet"], 3, "nothing matches nowhere"),
    "missing column": (
        "sessionize",
        FIRST,
        [ELSEWHERE, "sources.views.columns.user=visitor"],
        3,
        "no column 'visitor' (for user)",
    ),
    "log too short": ("train", FIRST, ["train.validation_days=60"], 3, "nothing is left to learn from"),
    "audit": ("sessionize", FIRST, [ELSEWHERE, "alarms.quarantine_share.high=0.0001"], 4, "rejected: missing_user"),
    "broken file": (
        "sessionize",
        NEXT,
        [f"sources.purchases.path={BROKEN}", "sources.views.required=false"],
        3,
        f"{BROKEN}: ",
    ),
}


@pytest.fixture(scope="module")
def failures(demo: Demo) -> dict[str, tuple[int, str]]:
    """Exit code and output of every failure, and that the warehouse stayed as it was."""
    (demo.folder / BROKEN).write_bytes(b"PAR1 or so")
    before = demo.links()
    with ThreadPoolExecutor(3) as pool:
        runs = {
            name: pool.submit(demo.submit, job, as_of, *overrides)
            for name, (job, as_of, overrides, _, _) in FAILURES.items()
        }
        found = {name: run.result() for name, run in runs.items()}
    assert demo.links() == before
    assert list((demo.folder / "warehouse" / "_staging").iterdir()) == []
    assert not (demo.folder / "elsewhere" / "_nights").exists()
    return found


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_has_its_exit_code_and_says_what(failures: dict[str, tuple[int, str]], name: str) -> None:
    *_, code, message = FAILURES[name]
    found, shown = failures[name]
    assert (found, message in shown) == (code, True), shown
    assert "Traceback" not in shown


def test_a_night_without_a_row_is_an_error_unless_allowed(demo: Demo, raw: Path) -> None:
    for source, name in (("purchases", "a.parquet"), ("views", "log.csv")):
        day = raw / source / f"date={LAST}"
        day.mkdir()
        if name.endswith("csv"):
            (day / name).write_text("at,who,what,kind,dwell\n")
        else:
            duckdb.sql(f"COPY (FROM '{raw}/purchases/*/*.parquet' LIMIT 0) TO '{day / name}'")
    code, shown = demo.submit("sessionize", NEXT)
    assert (code, "no rows for the night" in shown) == (3, True), shown
    shown = demo.succeed("sessionize", NEXT, "sessionize.allow_empty_night=true")
    assert "rows_read 0" in shown


def test_of_two_runs_of_one_night_one_publishes_and_the_other_changes_nothing(demo: Demo) -> None:
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(demo.submit, "score", NIGHTS[0], f"score.top_n={n}") for n in (5, 6)]
        codes = sorted(run.result()[0] for run in runs)
    assert codes == [0, 5]
    ((lengths,),) = demo.rows(
        f"SELECT list(DISTINCT n) FROM (SELECT count(*) n FROM {{recommendations/as_of={NIGHTS[0]}}} GROUP BY user_id)"
    )
    assert lengths in ([5], [6])


def test_without_a_model_or_catalogues_the_exponential_law_scores_the_night(beside: Beside) -> None:
    plain = beside.plain.result()
    assert plain.manifest("score", NIGHTS[0])["metrics"]["model_kind"] == "exponential"
    ((users,),) = plain.rows("SELECT count(*) FROM {users/*}")
    ((items,),) = plain.rows("SELECT count(*) FROM {items/*}")
    assert users < generated.USERS  # the silent member is in no event
    assert plain.rows("SELECT count(*), max(affinity), max(memory) > 0 FROM {scores/*}") == [
        (users * items, 0.0, True)  # type: ignore[operator]
    ]
