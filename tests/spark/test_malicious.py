"""A hostile corpus: whatever is in a file or an id is refused or carried as data, and nothing of it is executed."""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from petastorm.etl.dataset_metadata import UNISCHEMA_KEY, get_schema_from_dataset_url
from pyspark.sql import SparkSession

from halflife import cli, forgetting
from halflife import config as configuration
from halflife.command import Job
from halflife.digests import digest_of_file
from halflife.errors import ConfigError, HalflifeError, InputMissingError, ModelError, UnreadableInputError
from halflife.model import artifact
from halflife.pipelines import report, score, sessionize
from halflife.training import feed
from halflife.upkeep import verify
from halflife.warehouse import Warehouse
from published_warehouse import TRAINED, publish_model
from small_night import NIGHT, staged
from training_log import AS_OF, row_of, user_events, write_rows


@dataclass
class Bomb:
    """What leaves a file behind when it is unpickled, even by a reader that allows builtins alone."""

    mark: Path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return exec, (f"open({str(self.mark)!r}, 'w').close()",)


@pytest.fixture
def bomb(tmp_path: Path) -> Bomb:
    return Bomb(tmp_path / "executed")


# --- Files


def with_pickle(folder: Path, name: str, bomb: Bomb) -> Path:
    """A training table with a pickled schema in the metadata of a file of this name."""
    write_rows(folder, [row_of(user_events(1))], [1])
    (schema,) = (pq.read_schema(path) for path in folder.glob("*.parquet"))
    (folder / name).parent.mkdir(exist_ok=True)
    pq.write_metadata(schema.with_metadata({UNISCHEMA_KEY: pickle.dumps(bomb)}), folder / name)
    return folder


@pytest.mark.parametrize("name", ["_common_metadata", "_metadata", "x_common_metadata", "part=1/_common_metadata"])
def test_a_pickled_schema_is_refused_before_petastorm_opens_the_folder(tmp_path: Path, bomb: Bomb, name: str) -> None:
    folder = with_pickle(tmp_path / "rows", name, bomb)
    with pytest.raises(InputMissingError, match=r"_metadata: may hold petastorm's pickled schema"):
        feed.check_folder(folder)
    with pytest.raises(InputMissingError):
        next(feed.histories(folder, before_seconds=AS_OF, shard=0, shards=1, seed=1, shuffle_rows=4))
    assert not bomb.mark.exists()


@pytest.mark.parametrize("name", ["_common_metadata", "_metadata", "x_common_metadata"])
def test_petastorm_itself_would_have_executed_it(tmp_path: Path, bomb: Bomb, name: str) -> None:
    folder = with_pickle(tmp_path / "rows", name, bomb)
    get_schema_from_dataset_url(folder.as_uri())  # what make_batch_reader does first
    assert bomb.mark.exists()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    store = Warehouse(tmp_path / "models")
    publish_model(store)
    return store.path("models", TRAINED)


def manifest_with(model: Path, name: str, digest: str) -> None:
    """Have a model's manifest name a file with a digest."""
    path = model / "manifest.json"
    content = json.loads(path.read_text())
    content["sha256"][name] = digest
    path.write_text(json.dumps(content))


def test_weights_with_pickled_objects_are_refused_unread(model: Path, bomb: Bomb) -> None:
    with np.load(model / artifact.WEIGHTS, allow_pickle=False) as arrays:
        weights = dict(arrays)
    np.savez(model / artifact.WEIGHTS, **{**weights, "jump/bias": np.array([bomb], dtype=object)})
    manifest_with(model, artifact.WEIGHTS, digest_of_file(model / artifact.WEIGHTS))
    with pytest.raises(ModelError, match=r"weights\.npz: not readable as arrays"):
        artifact.load(model)
    assert not bomb.mark.exists()


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "a/b", ".."])
def test_a_models_manifest_names_no_file_outside_its_folder(model: Path, name: str) -> None:
    manifest_with(model, name, "0" * 64)
    with pytest.raises(ModelError, match=r"no plain file name|cannot be read \(Is a directory\)"):
        artifact.load(model)


@pytest.mark.parametrize("path", ["../../secret", "/etc/passwd", "a/../../b", "", "a\0b"])
def test_a_nights_manifest_whose_paths_lead_out_of_the_table_is_refused(tmp_path: Path, path: str) -> None:
    store = Warehouse(tmp_path / "warehouse")
    store.publish(staged(store, "1", 1), {}, {})
    manifest = store.night_link("evaluate", NIGHT).resolve() / "manifest.json"
    content = json.loads(manifest.read_text())
    content["tables"]["metrics"]["files"][0]["path"] = path
    manifest.write_text(json.dumps(content))
    with pytest.raises(UnreadableInputError, match=r"manifest\.json: cannot be read: tables\.metrics\.files\.0\.path"):
        store.files("metrics", NIGHT)
    assert [damage.what for damage in verify.damages(store)] != []


@pytest.mark.parametrize(
    "text",
    [
        "warehouse: !!python/object/apply:builtins.open ['{mark}', w]",
        "warehouse: !!python/object/new:builtins.exec [\"open('{mark}', 'w')\"]",
        "warehouse: !!python/name:os.system",
        "warehouse: !!python/module:os",
        "warehouse: !unknown x",
    ],
)
def test_yaml_with_python_tags_is_refused(tmp_path: Path, bomb: Bomb, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text.format(mark=bomb.mark))
    with pytest.raises(ConfigError, match="not readable as YAML"):
        configuration.load(path)
    with pytest.raises(ConfigError, match="not readable as YAML"):
        configuration.load(path, [text.format(mark=bomb.mark).replace(": ", "=", 1)])
    assert not bomb.mark.exists()


# --- Ids

HOSTILE = (
    "'; DROP TABLE users; --",
    '" OR ""="',
    "two\nlines\r\nand a tab\t.",
    "../../escaped",
    "..\\..\\escaped",
    "/etc/passwd",
    "nul\0byte",
    "\x1b[31mred\x1b]0;title\x07",
    "\x9b31m",
    "right to left \u202e txt.exe",
    "<script>document.title='executed'</script>",
    "\"><img src=x onerror=document.title='executed'>",
    "&lt;already&gt;",
    "[bold]markup[/bold] [/] [link=file:///]x[/link]",
    "$(touch executed) `touch executed` ${jndi:ldap://127.0.0.1/x} {date} %s %n",
    "=HYPERLINK(1)",
    "as_of=2026-05-02",
    "null",
    " spaces ",
    "\U0001f600 e\u0301",
)  # fmt: skip
CONFIG = """\
warehouse: {folder}/warehouse
sources:
  log:
    path: {folder}/log.jsonl
    format: json
    event_type: view
    columns: {{user: u, item: i, time: t, context: [c]}}
event_types: {{view: {{weight: 1.0}}}}
users: {{path: {folder}/users.jsonl, format: json, id: u}}
items: {{path: {folder}/items.jsonl, format: json, id: i, title: n, category: k, features: [n]}}
sessionize: {{sequence_length: 5}}
"""
NIGHTS = (date(2026, 5, 2), date(2026, 5, 3))
ACTIVE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture(scope="module")
def hostile(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two nights of a log whose users, items, titles and categories are hostile, and with their reports;
    returns its config."""
    folder = tmp_path_factory.mktemp("hostile")
    pairs = [(user, item) for place, user in enumerate(HOSTILE) for item in (user, HOSTILE[place - 1])]
    events = [{"u": u, "i": i, "t": f"2026-05-01T{n % 24:02}:00:00Z", "c": u} for n, (u, i) in enumerate(pairs)]
    events += [{"u": HOSTILE[0], "i": HOSTILE[1], "t": "2026-05-02T01:00:00Z", "c": ""}, {"u": None, "i": HOSTILE[2]}]
    tables = {
        "log": events,
        "users": [{"u": user} for user in HOSTILE],
        "items": [{"i": item, "n": f"title of {item}", "k": item} for item in HOSTILE],
    }
    for name, rows in tables.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder))
    for night in NIGHTS:
        for name, pipeline in {"sessionize": sessionize.run, "score": score.run, "report": report.run}.items():
            pipeline(Job(name, night, configuration.load(path), sys.stdout, until=night))
    return path


def rows(config: Path, table: str, columns: str) -> list[tuple[str, ...]]:
    files = f"read_parquet('{config.parent}/warehouse/{table}/as_of={NIGHTS[-1]}/*.parquet', hive_partitioning=false)"
    return duckdb.sql(f"SELECT {columns} FROM {files} ORDER BY ALL").fetchall()


def test_ids_are_carried_exactly_as_they_are(hostile: Path) -> None:
    assert {user for (user,) in rows(hostile, "users", "user_id")} == set(HOSTILE)
    assert {user for (user,) in rows(hostile, "events", "user_id")} == set(HOSTILE)
    assert rows(hostile, "items", "item_id, title, category") == sorted((i, f"title of {i}", i) for i in HOSTILE)
    assert rows(hostile, "scores", "user_id, item_id") == sorted((u, i) for u in HOSTILE for i in HOSTILE)
    assert {item for (item,) in rows(hostile, "recommendations", "item_id")} == set(HOSTILE)


def test_no_path_is_made_of_an_id(hostile: Path) -> None:
    known = {hostile.parent / name for name in ("config.yaml", "log.jsonl", "users.jsonl", "items.jsonl", "warehouse")}
    assert set(hostile.parent.iterdir()) == known
    names = {path.name for path in (hostile.parent / "warehouse").rglob("*")}
    assert not [name for name in names for word in ("executed", "escaped", "DROP", "touch") if word in name]


def asked(capsys: pytest.CaptureFixture[str], config: Path, *words: str) -> str:
    """What the command shows."""
    capsys.readouterr()
    code = cli.main([words[0], "--config", str(config), *words[1:]])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return shown.out


@pytest.mark.parametrize("id", HOSTILE, ids=repr)
def test_answers_about_a_hostile_id_are_exact_and_drive_no_terminal(
    hostile: Path, capsys: pytest.CaptureFixture[str], id: str
) -> None:
    explained = json.loads(asked(capsys, hostile, "explain", id, id, "--json"))
    assert (explained["user_id"], explained["item_id"], len(explained["events"])) == (id, id, 1)
    best = json.loads(asked(capsys, hostile, "top", id, "--json"))
    assert {id} <= {row["item_id"] for row in best} <= set(HOSTILE)
    assert id in asked(capsys, hostile, "audience", "--item", id, "--above", "0").replace('""', '"')
    night = [str(each) for each in NIGHTS]
    for words in (["explain", id, id], ["top", id], ["diff", *night, "--user", id]):
        shown = asked(capsys, hostile, *words)
        assert not ACTIVE.search(shown)
        if id.isprintable() and len(id) < 20:
            assert id in " ".join(shown.split("\n"))


class Page(HTMLParser):
    """The elements of a page, their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("night", NIGHTS)
def test_a_report_holds_hostile_titles_as_text(hostile: Path, night: date) -> None:
    page = Page((hostile.parent / "warehouse/reports" / f"as_of={night}" / "report.html").read_text())
    assert not page.tags & {"script", "img", "iframe", "link", "object", "embed", "form", "base"}
    assert not [name for name in page.attributes if name.startswith("on")]
    assert "title of" in page.text


def test_hostile_users_are_forgotten_by_their_id_alone(spark: SparkSession, hostile: Path) -> None:
    store = Warehouse(hostile.parent / "warehouse")
    path = forgetting.ask(store, date(2026, 5, 4), HOSTILE, [])
    (request,) = forgetting.requests(store).values()
    frame = spark.createDataFrame([(user,) for user in (*HOSTILE, "other")], "user_id string")
    left = frame.where(~forgetting.of_users(frame["user_id"], [request])).collect()
    path.unlink()
    assert [row["user_id"] for row in left] == ["other"]


def test_an_unknown_hostile_id_is_one_line(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("a\nb\x1b[0m", "[/]"):
        assert cli.main(["top", "--config", str(hostile), word]) == HalflifeError.exit_code + 1
        assert capsys.readouterr().err.count("\n") == 1
