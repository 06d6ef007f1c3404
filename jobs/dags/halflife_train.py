"""Weekly training, of which the nights take whatever model is live: they never wait for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable
from halflife_tasks import PARAMS, SubmitJob, WaitFor, assets, settings

to = settings()

with DAG(
    "halflife_train",
    description=__doc__,
    schedule=CronDataIntervalTimetable(to.weekly, timezone="UTC"),
    start_date=datetime.combine(to.first_night, datetime.min.time(), UTC) - timedelta(days=7),
    catchup=False,  # only the newest model is of use
    max_active_runs=1,
    default_args=to.default_args,
    params=PARAMS,
    tags=["halflife"],
) as dag:
    wait_for_night = WaitFor(job="train", to=to, task_id="wait_for_night")
    train = SubmitJob(job="train", to=to, outlets=assets("train"))

    wait_for_night >> train
