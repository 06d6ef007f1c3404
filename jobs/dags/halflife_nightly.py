"""The night: wait for the day's logs, merge them, score every pair, verify what was published, evaluate, report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable
from halflife_tasks import PARAMS, Ask, SubmitJob, WaitFor, assets, settings

to = settings()

with DAG(
    "halflife_nightly",
    description=__doc__,
    # A run covers the day before its night, whatever Airflow's version makes of a cron expression by default.
    schedule=CronDataIntervalTimetable(to.nightly, timezone="UTC"),
    start_date=datetime.combine(to.first_night, datetime.min.time(), UTC) - timedelta(days=1),
    catchup=to.catch_up,
    max_active_runs=1,  # each night builds on the one before it
    default_args=to.default_args,
    params=PARAMS,
    tags=["halflife"],
) as dag:
    wait_for_events = WaitFor(job="sessionize", to=to, task_id="wait_for_events")
    # Not depends_on_past: the run behind a night that failed would wait for it, and hold the only place in which that
    # one could run once it is cleared. Each night reads all days since the last that is published, this one's too.
    sessionize = SubmitJob(job="sessionize", to=to)
    # Audit and publish are no tasks of their own: the job audits what it has staged, and makes it visible in one rename
    # where it is still the only run of the night. In tasks apart, what is published might not be what was audited.
    # A failed audit is exit code 4: nothing behind it runs, and readers keep the tables of the last night.
    score = SubmitJob(job="score", to=to)
    # Reads each published file again; the assets are there for others from then on.
    verify = Ask(command="verify", to=to, outlets=assets("sessionize", "score"))
    report = Ask(command="report", to=to, outlets=assets("report"))

    sessionize >> score >> verify >> report  # which does not wait for tonight's evaluation: it shows the last there is
    wait_for_events >> [sessionize, score, verify, report]  # so that all are skipped with it, by their trigger rule
    if to.evaluate:  # of the nights whose horizon has passed by now, the last one
        evaluate = SubmitJob(job="evaluate", to=to, sets=["evaluate.newest_nights=1"], outlets=assets("evaluate"))
        verify >> evaluate
