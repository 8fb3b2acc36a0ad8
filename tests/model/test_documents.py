"""How jobs, queues and workers look from outside."""

from __future__ import annotations

import json
import math
from uuid import UUID

from kit.job_records import ERROR, NOON, a_job

from pgqueue.model.documents import job_details_document, queue_document, worker_document
from pgqueue.model.jobs import Action, Attempt
from pgqueue.model.measures import Count, Drain, Percentiles, QueueMeasure, RunningJob, WorkerMeasure
from pgqueue.model.progress import Progress


def test_a_drain_that_never_ends_is_valid_json() -> None:
    queue = QueueMeasure(
        queue="default",
        is_paused=False,
        pending=Count(10_000, is_exact=False),
        scheduled=Count(0),
        retrying=Count(0),
        blocked=Count(0),
        running=Count(1),
        failed=Count(0),
        oldest_age=1.5,
        enqueued_rate=2.0,
        finished_rate=1.0,
        wait=Percentiles(0.1, 0.2, 0.3),
        run=None,
        drain=Drain(60.0, math.inf, math.inf),
    )

    document = json.loads(json.dumps(queue_document(queue), allow_nan=False))

    assert document["drain"] == {"low": 60.0, "likely": None, "high": None}
    assert document["pending"] == {"value": 10_000, "is_exact": False}
    assert document["wait"] == {"p50": 0.1, "p95": 0.2, "p99": 0.3}


def test_a_worker_is_shown_with_what_it_runs() -> None:
    running = RunningJob(UUID(int=7), "work", "default", 1, NOON, 3.0, Progress(1, None, None))
    worker = WorkerMeasure(
        lease_id=UUID(int=1),
        name="worker-1",
        version=None,
        queues=("default",),
        started_at=NOON,
        lease_age=1.0,
        lease_left=-0.5,
        loop_lag=None,
        abandoned_threads=2,
        running=1,
        prefetched=0,
        jobs=[running],
    )

    document = json.loads(json.dumps(worker_document(worker), allow_nan=False))

    assert document["is_alive"] is False
    assert document["abandoned_threads"] == 2
    assert document["jobs"][0]["job_id"] == str(UUID(int=7))
    assert document["jobs"][0]["progress"] == {"current": 1, "total": None, "meta": None}


def test_tracebacks_are_shown_only_on_request() -> None:
    past = Attempt(1, NOON, NOON, "worker-1", None, "exception", ERROR)
    action = Action(NOON, "redriven", 1, None, "ada")

    def details(*, show: bool) -> str:
        return json.dumps(
            job_details_document(
                a_job(), arguments="[redacted]", attempts=[past], actions=[action], show_tracebacks=show
            )
        )

    assert "secret.py" not in details(show=False)
    assert details(show=True).count("secret.py") == 3
    assert "1234" not in details(show=True)
