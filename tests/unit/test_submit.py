"""spark-submit's lines, compared with committed files: HALFLIFE_WRITE_LINES=1 writes them anew."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from halflife import config, submission, submit
from halflife.errors import ConfigError
from halflife.escapes import SECRET

ROOT = Path(__file__).parents[2]
LINES = Path(__file__).parent / "submit_lines"
SHOP = """\
extends: {cluster}
warehouse: warehouse
sources:
  shop: {{path: "shop/{{date}}.csv", format: csv, columns: {{user: u, item: i, time: t, event_type: kind}}}}
event_types: {{view: {{weight: 0.2}}, purchase: {{weight: 1.0}}}}
"""
KUBERNETES = (
    "cluster.master=k8s://https://kubernetes.internal:443",
    "cluster.conf={spark.kubernetes.namespace: halflife, spark.kubernetes.container.image: spark:4.0.5}",
)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The config of a shop on a cluster, as conf/cluster.yaml has it."""
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP.format(cluster=ROOT / "conf/cluster.yaml"))
    return file


def line(job: str, env: str, shop: Path, *sets: str, given: dict[str, str] | None = None) -> str:
    """What --dry-run prints, with the config where a project has it."""
    command = [sys.executable, "-m", "halflife.submit", job, "--env", env, "--dry-run", "--config", str(shop)]
    command += ["--as-of", "2026-11-24", *(word for value in sets for word in ("--set", value))]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HALFLIFE_")} | (given or {})
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean)
    return done.stdout.replace(str(shop), "conf/shop.yaml")


@pytest.mark.parametrize(
    ("name", "job", "env", "sets"),
    [
        ("local-score", "score", "local", ()),
        ("local-train", "train", "local", ()),
        ("standalone-sessionize", "sessionize", "cluster", ()),
        ("standalone-score", "score", "cluster", ()),
        ("standalone-train", "train", "cluster", ()),
        ("yarn-score", "score", "cluster", ("cluster.master=yarn",)),
        ("yarn-train-gpu", "train", "cluster", ("cluster.master=yarn", "cluster.train.gpus_per_rank=1")),
        ("kubernetes-score", "score", "cluster", KUBERNETES),
        ("kubernetes-train-gpu", "train", "cluster", (*KUBERNETES, "cluster.train.gpus_per_rank=1")),
    ],
)
def test_the_line_of_a_job_is_as_committed(name: str, job: str, env: str, sets: tuple[str, ...], shop: Path) -> None:
    found, file = line(job, env, shop, *sets), LINES / f"{name}.sh"
    if os.environ.get("HALFLIFE_WRITE_LINES"):
        file.write_text(found)
    assert found == file.read_text()
    assert not re.search(r"(^|[\s='\"])/", found), "an absolute path"
    assert not re.search(SECRET, found, re.IGNORECASE)


def test_a_line_can_be_run_as_it_is_shown(shop: Path) -> None:
    loaded, properties = config.load(shop), submission.read_properties(ROOT / submission.CLUSTER)
    made = submission.on_cluster("score", ["--as-of", "2026-11-24"], loaded, properties, Path("a log"))
    assert shlex.split(made.shown().replace("\\\n", " ")) == made.command()


def test_files_of_the_project_are_found_from_any_folder(shop: Path) -> None:
    loaded = config.load(shop)
    command = submission.on_cluster("score", [], loaded, {}, Path("a.log")).command(Path("/project"))
    assert "/project/dist/environment.tar.gz#environment" in command
    assert "spark.pyspark.driver.python=/project/.venv/bin/python" in command


def test_the_environment_says_which_local_master(shop: Path) -> None:
    assert "--master 'local[3]'" in line("score", "local", shop, given={"HALFLIFE_MASTER": "local[3]"})


def test_a_report_needs_no_cluster(shop: Path) -> None:
    assert "--master 'local[*]'" in line("report", "cluster", shop)


def test_ranks_have_all_their_executors_from_the_start_and_no_more(shop: Path) -> None:
    sets = ["train.ranks=6", "train.shards=6", "cluster.train.ranks_per_executor=4", "cluster.train.cores_per_rank=3"]
    conf = submission.on_cluster("train", [], config.load(shop, sets), {}, Path("a.log")).conf
    assert conf["spark.executor.instances"] == "2"
    assert conf["spark.executor.cores"] == "12"
    assert conf["spark.cores.max"] == "24"
    assert conf["spark.dynamicAllocation.enabled"] == "false"
    assert conf["spark.scheduler.minRegisteredResourcesRatio"] == "1.0"


def test_a_job_of_its_own_size_has_it(shop: Path) -> None:
    sets = ["cluster.jobs.evaluate.at_most=3", "cluster.jobs.evaluate.cores_per_task=2"]
    loaded = config.load(shop, sets)
    found = [submission.on_cluster(job, [], loaded, {}, Path("a.log")).conf for job in ("evaluate", "sessionize")]
    assert [conf["spark.dynamicAllocation.maxExecutors"] for conf in found] == ["3", "20"]
    assert [conf["spark.default.parallelism"] for conf in found] == ["6", "80"]


def test_what_the_config_says_of_spark_wins(shop: Path) -> None:
    loaded = config.load(shop, ["cluster.conf={spark.ui.enabled: true, spark.network.timeout: 300s}"])
    conf = submission.on_cluster("score", [], loaded, {"spark.network.timeout": "120s"}, Path("a.log")).conf
    assert (conf["spark.ui.enabled"], conf["spark.network.timeout"]) == ("true", "300s")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("cluster.master=mesos://host", "cluster.master"),
        ("cluster.executors.memory=8", "cluster.executors.memory"),
        ("cluster.executors.cores_per_task=5", "more than the 4 of an executor"),
        ("cluster.executors.at_least=30", "more than at_most"),
        ("cluster.conf={spark.authenticate.secret: x}", "a secret does not belong here"),
        ("cluster.conf={spark.hadoop.fs.s3a.access.key: x}", "a secret does not belong here"),
        ("cluster.conf={spark.hadoop.fs.azure.account.key.shop.dfs.core.windows.net: x}", "a secret does not belong"),
    ],
)
def test_a_wrong_setting_is_refused(shop: Path, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.load(shop, [override])


@pytest.mark.parametrize("key", ["spark.kubernetes.executor.secretKeyRef.ID", "spark.authenticate.secret.file"])
def test_where_a_secret_is_may_be_said(shop: Path, key: str) -> None:
    assert config.load(shop, [f"cluster.conf={{{key}: x}}"]).cluster.conf == {key: "x"}


def test_a_config_without_a_cluster_says_what_is_missing() -> None:
    loaded = config.load(ROOT / "conf/local.yaml")
    with pytest.raises(ConfigError, match=r"cluster\.master: not set"):
        submission.on_cluster("score", [], loaded, {}, Path("a.log"))


def test_a_job_that_does_not_exist_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert submit.main(["scoer"]) == 2
    assert "jobs: deliver evaluate report score sessionize train" in capsys.readouterr().err


def test_every_setting_of_the_cluster_has_its_reason() -> None:
    lines = (ROOT / submission.CLUSTER).read_text().splitlines()
    settings = [number for number, text in enumerate(lines) if text.startswith("spark.")]
    assert len(settings) > 8
    for number in settings:
        assert lines[number - 1].startswith(("#", lines[number].rpartition(".")[0])), lines[number]


def test_a_cluster_is_given_no_other_code_than_is_here(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no halflife\.zip and no environment\.tar\.gz; run scripts/package"):
        submit.check_packages(tmp_path)
    (tmp_path / submission.ENVIRONMENT).touch()
    with zipfile.ZipFile(tmp_path / submission.LIBRARY, "w") as packed:
        for file in (ROOT / "lib/halflife").rglob("*"):
            if file.suffix in (".py", ".typed"):
                packed.write(file, file.relative_to(ROOT / "lib"))
    submit.check_packages(tmp_path)
    with zipfile.ZipFile(tmp_path / submission.LIBRARY, "a") as packed:
        packed.writestr("halflife/gone_since.py", "")
    with pytest.raises(ConfigError, match="is not of the code in"):
        submit.check_packages(tmp_path)
