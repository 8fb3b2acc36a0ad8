"""When to ask again for a job."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.values import NOON, a_job

from pgqueue.model.jobs import TERMINAL, Job, JobStatus
from pgqueue.model.measures import Count, Drain, Percentiles, QueueMeasure
from pgqueue.model.progress import Progress
from pgqueue.web.http.retry_after import MAX_RETRY_AFTER, Outlook, left, retry_after, retry_after_submission

ANY_NUMBER = st.floats(allow_nan=False)
MAYBE = st.none() | st.floats(min_value=0, allow_nan=False)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(3000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # by timezones=


def a_queue(**fields: Any) -> QueueMeasure:
    queue = QueueMeasure(
        queue="default",
        is_paused=False,
        pending=Count(100),
        scheduled=Count(0),
        retrying=Count(0),
        blocked=Count(0),
        running=Count(1),
        failed=Count(0),
        oldest_age=30.0,
        enqueued_rate=1.0,
        finished_rate=1.0,
        wait=None,
        run=Percentiles(2.0, 3.0, 4.0),
        drain=Drain(50.0, 60.0, 70.0),
    )
    return replace(queue, **fields)


@pytest.mark.contract("P6.6")
@given(
    status=st.sampled_from(sorted(set(JobStatus) - TERMINAL)),
    created_at=TIMES,
    started_at=st.none() | TIMES,
    next_run_at=st.none() | TIMES,
    run_at=st.none() | TIMES,
    attempt=st.integers(0, 10),
    current=ANY_NUMBER,
    total=st.none() | ANY_NUMBER,
    wait=MAYBE,
    run=MAYBE,
)
def test_it_is_a_positive_integer_and_capped_whatever_is_known(
    *,
    status: JobStatus,
    wait: float | None,
    run: float | None,
    current: float,
    total: float | None,
    **times: Any,
) -> None:
    job = a_job(status, progress=Progress(current, total, None), **times)

    seconds = retry_after(job, Outlook(wait, run))

    assert type(seconds) is int
    assert 1 <= seconds <= MAX_RETRY_AFTER
    assert 1 <= retry_after_submission(Outlook(wait, run)) <= MAX_RETRY_AFTER


@pytest.mark.contract("P6.6")
@pytest.mark.parametrize(
    ("job", "outlook", "seconds"),
    [
        # Backoff: when it is tried again, and how long that takes.
        (a_job(JobStatus.SCHEDULED, next_run_at=NOON + timedelta(seconds=40)), Outlook(run=2.0), 42),
        (a_job(JobStatus.SCHEDULED, next_run_at=NOON - timedelta(seconds=40)), Outlook(), 1),
        # Backlog: what those before it take, less what it has waited.
        (a_job(JobStatus.PENDING), Outlook(wait=60.0, run=2.0), 42),
        (a_job(JobStatus.PENDING, attempt=1), Outlook(wait=60.0, run=2.0), 62),
        (a_job(JobStatus.PENDING), Outlook(wait=math.inf), MAX_RETRY_AFTER),
        # Nobody knows: the longer it has lasted, the less often.
        (a_job(JobStatus.PENDING), Outlook(), 5),
        (a_job(JobStatus.BLOCKED), Outlook(wait=1.0), 5),
        # Estimated end: by its own report, or by how long others take.
        (
            a_job(
                JobStatus.RUNNING,
                started_at=NOON - timedelta(seconds=10),
                progress=Progress(1, 4, None),
            ),
            Outlook(run=2.0),
            30,
        ),
        (a_job(JobStatus.RUNNING, started_at=NOON - timedelta(seconds=10)), Outlook(run=60.0), 50),
        (a_job(JobStatus.RUNNING, started_at=NOON - timedelta(seconds=40)), Outlook(run=6.0), 10),
    ],
)
def test_it_follows_from_backoff_backlog_and_estimated_end(job: Job, outlook: Outlook, seconds: int) -> None:
    assert retry_after(job, outlook) == seconds


@pytest.mark.parametrize(
    ("queue", "outlook"),
    [
        (a_queue(), Outlook(60.0, 2.0)),
        (a_queue(pending=Count(0)), Outlook(0.0, 2.0)),
        (a_queue(is_paused=True), Outlook(math.inf, 2.0)),
        (a_queue(drain=None, run=None), Outlook(30.0, None)),
        (a_queue(drain=None, oldest_age=None), Outlook(0.0, 2.0)),
    ],
)
def test_what_to_expect_of_a_queue_follows_from_what_was_measured(
    queue: QueueMeasure, outlook: Outlook
) -> None:
    assert Outlook.of(queue) == outlook


@given(elapsed=st.floats(0, 1e9), expected=MAYBE)
def test_nothing_is_expected_in_the_past(elapsed: float, expected: float | None) -> None:
    assert left(expected, elapsed) >= 0
