"""The report of a night, as one HTML file."""

from __future__ import annotations

from typing import Any

from halflife.command import Job
from halflife.forgetting import requests
from halflife.report import facts, runs
from halflife.report.page import page
from halflife.warehouse import Run

FILE = "report.html"


def run(job: Job) -> None:
    """Write the report of the published night `job.as_of`, and publish it; no Spark is needed."""
    found = facts.read(job.warehouse, job.as_of)
    failed = runs.failures(job.warehouse, found.score)
    inputs = {
        "runs": [manifest["run_id"] for manifest in (*found.manifests, *found.intake)],
        "before": found.before and found.before["run_id"],
        "failed": [(run.job, run.night, run.began) for run in failed],
        # Requests that were carried out have removed the reports that were there.
        "forgotten": sorted(path.name for path, request in requests(job.warehouse).items() if not request.erase),
    }

    def stage(night: Run) -> dict[str, Any]:
        with job.stage("report"):
            folder = night.path("reports")
            folder.mkdir()
            (folder / FILE).write_text(page(found, failed), encoding="utf-8")
        return {}

    job.publish(inputs, stage)
