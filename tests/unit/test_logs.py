"""What a job writes down: JSON lines that a machine reads, and no secret in any of it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halflife import command, logs
from halflife import config as configuration
from halflife.command import Job
from halflife.errors import ConfigError
from halflife.escapes import redacted, redacted_tree
from halflife.report import runs
from halflife.warehouse import Run, Warehouse
from small_night import NIGHT

LOCAL = Path(__file__).parents[2] / "conf" / "local.yaml"
SECRET = "hunter2hunter2"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files job.log and job.jsonl of what is logged."""
    monkeypatch.setenv(logs.LOG, str(tmp_path / "job.log"))
    monkeypatch.setenv(logs.JSON, str(tmp_path / "job.jsonl"))
    monkeypatch.setenv("LAKE_SECRET_KEY", SECRET)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    logs.begin()
    yield tmp_path
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logs.about(job=None, night=None, run=None, stage=None)


def job_of(folder: Path, *overrides: str) -> Job:
    given = [f"warehouse={folder}/warehouse", f"train.mlflow_uri=https://me:{SECRET}@tracking/?token=abcdefgh"]
    return Job("evaluate", NIGHT, configuration.load(LOCAL, [*given, *overrides]), sys.stdout, until=NIGHT)


def publishing(job: Job) -> None:
    """A pipeline that publishes a small night."""

    def stage(run: Run) -> dict[str, Any]:
        with job.stage("judge"):
            for table in ("metrics", "evaluation"):
                run.path(table).mkdir()
            pq.write_table(pa.table({"value": [1, 2, 3]}), run.path("metrics") / "part-0.parquet")
            (run.path("evaluation") / "metrics.json").write_text("[]")
        return {"figure": 1.5}

    job.publish({"from": f"s3://me:{SECRET}@bucket/log"}, stage)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "job.jsonl").read_text().splitlines()]


def test_a_run_is_told_in_json_lines(written: Path) -> None:
    job = job_of(written)
    command.run(publishing, job)
    events = [line for line in lines(written) if "event" in line]
    assert [line["event"] for line in events] == [
        *("begun", "stage begun", "stage done", "stage begun", "stage done", "published")
    ]
    for line in events:
        assert (line["job"], line["night"], line["level"]) == ("evaluate", str(NIGHT), "info")
        assert line["time"].endswith("+00:00")
    assert [line.get("stage") for line in events] == [None, "judge", "judge", "publish", "publish", None]
    run_id = Warehouse(job.config.warehouse).manifest("evaluate", NIGHT)["run_id"]  # type: ignore[index]
    assert {line.get("run") for line in events[1:]} == {run_id}
    assert events[-1]["rows"] == {"metrics": 3, "evaluation": 0}
    assert events[2]["seconds"] >= 0


def test_other_libraries_stay_in_the_log_for_people(written: Path) -> None:
    logging.getLogger("py4j").warning("something of Java's")
    assert "something of Java's" in (written / "job.log").read_text()
    assert lines(written) == []


@pytest.mark.parametrize("secret", ['say "hunter2"', r"back\slash", "two\nlines of it", "contraseña", "20260102"])
def test_a_secret_of_any_characters_is_left_out_of_a_json_line(
    written: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("LAKE_SECRET_KEY", secret)
    figures = {"text": secret, "path": Path(f"/{secret}"), "rows": 120260102}
    logging.getLogger("halflife").error("it was %s", secret, extra=logs.event("failed", **figures))
    (line,) = lines(written)
    assert (line["message"], line["text"], line["path"], line["rows"]) == ("it was ***", "***", "/***", 120260102)


def test_no_secret_is_in_a_log_a_manifest_or_a_status(written: Path) -> None:
    def failing(job: Job) -> None:
        publishing(job)
        raise ConfigError(f"s3://me:{SECRET}@bucket/x: not there, nor {SECRET}, nor http://host/?sig=a&api_key=abc")

    job = job_of(written)
    with pytest.raises(ConfigError) as caught:
        command.run(failing, job)
    logging.getLogger("halflife").error("it was %s", caught.value, exc_info=caught.value)
    text = "".join(path.read_text(errors="replace") for path in written.rglob("*") if path.is_file())
    assert "s3://***@bucket" in text
    assert SECRET not in text
    assert "abcdefgh" not in text
    assert "api_key=abc" not in text
    assert lines(written)[-1]["error"] == "ConfigError"
    (run,) = (run for run in runs.history(job.warehouse) if run.state == "failed")
    assert run.message == "s3://***@bucket/x: not there, nor ***, nor http://host/?sig=***&api_key=***"


def test_a_night_is_the_same_whatever_secrets_the_environment_of_its_run_holds(
    written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(written)
    command.run(publishing, job)
    monkeypatch.delenv("LAKE_SECRET_KEY")
    monkeypatch.setenv("POSTGRES_PASSWORD", "bucket/log")
    command.run(publishing, job_of(written))
    assert "nothing to do" in capsys.readouterr().out
    manifest = job.warehouse.manifest("evaluate", NIGHT)
    assert manifest is not None
    assert manifest["inputs"] == {"from": "s3://***@bucket/log"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3a://key:secret@bucket/a, s3://bucket/b", "s3a://***@bucket/a, s3://bucket/b"),
        ("postgres://me@host", "postgres://***@host"),
        ("https://h/x?a=1&X-Amz-Signature=ab12&b=2", "https://h/x?a=1&X-Amz-Signature=***&b=2"),
        ("https://me:p/ss@h/x", "https://***@h/x"),
        ("https://me:p@ss=1@h/x", "https://***@h/x"),
        ("https://p@ss@h/x", "https://***@h/x"),
        ("s3://a:b@c/d,s3://e:f@g/h", "s3://***@c/d,s3://***@g/h"),
        ("https://h/#access_token=ab12", "https://h/#access_token=***"),
        ("https://h/?a=1&pwd=ab12", "https://h/?a=1&pwd=***"),
        ("x;AccountKey=ab12==", "x;AccountKey=***"),
        ("https://h/?tokenizer=words", "https://h/?tokenizer=words"),
        ("hdfs://name:9000/lake/a@b", "hdfs://name:9000/lake/a@b"),
        ("https://h?mail=a@b", "https://h?mail=a@b"),
        ("abfss://lake@shop.dfs.core.windows.net/x?sig=ab12", "abfss://lake@shop.dfs.core.windows.net/x?sig=***"),
        ("mail a@b.c, 2026-01-01T00:00:00", "mail a@b.c, 2026-01-01T00:00:00"),
    ],
)
def test_credentials_in_urls_are_left_out(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted_tree({"a": [text, 1, None]}) == {"a": [shown, 1, None]}
    assert json.loads(redacted(json.dumps({"a": text}))) == {"a": shown}


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("AZURE_STORAGE_ACCOUNT_KEY", SECRET, "***"),
        ("AZURE_STORAGE_CONNECTION_STRING", SECRET, "***"),
        ("ENCRYPTION_KEY", SECRET, "***"),
        ("DB_PWD", SECRET, "***"),
        ("AWS_SECRET_ACCESS_KEY", "/" + SECRET, "***"),
        ("DB_PASSWORD", "./././././.", "***"),
        ("AWS_ACCESS_KEY_ID", SECRET, SECRET),
        ("GOOGLE_APPLICATION_CREDENTIALS", str(LOCAL), str(LOCAL)),
        ("OLDPWD", "/gone/since", "/gone/since"),
        ("TOKENIZERS_PARALLELISM", "tokenizers", "tokenizers"),
    ],
)
def test_variables_that_are_secrets_by_their_name_are_left_out_and_no_others(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str
) -> None:
    monkeypatch.setenv(name, value)
    assert redacted(value) == shown
