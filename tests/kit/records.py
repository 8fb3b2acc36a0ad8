"""What the logger "pgqueue.jobs" has said, kept for tests; and what it may say."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pgqueue.model.jobs import TRANSITIONS, JobStatus

BEGINNINGS = {
    "job.enqueued": {JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.BLOCKED},
    "job.redriven": {JobStatus.PENDING},
    "job.requeued": {JobStatus.PENDING},
}
"""Where a life can begin, by what begins it."""
STAYING = {"job.cancel_requested", "job.lost", "job.released", "job.replaced"}
"""What can be said of a job that stays where it is."""


@contextmanager
def kept_records(
    caplog: pytest.LogCaptureFixture, *, leaving_out: Collection[str] = ()
) -> Iterator[list[logging.LogRecord]]:
    """Keep the records, but those of certain events. In the end, each must be of a legal transition."""
    logger, found = logging.getLogger("pgqueue.jobs"), []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if vars(record)["event"] not in leaving_out:
                found.append(record)

    handler = Keep()
    caplog.set_level(logging.INFO, "pgqueue.jobs")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
    assert [described(each) for each in found if not is_legal(each)] == []


def is_legal(record: Any) -> bool:
    """Return whether a record is of a transition that the database allows, or of a job that stays."""
    after = JobStatus(record.to_status)
    if record.from_status is None:
        return after in BEGINNINGS.get(record.event, ())
    before = JobStatus(record.from_status)
    return record.event in STAYING if before is after else after in TRANSITIONS[before]


def described(record: Any) -> str:
    """Return what a record says of its job's way, as "retrying: running > scheduled"."""
    verb = record.event.removeprefix("job.")
    return f"{verb}: {record.from_status or 'nowhere'} > {record.to_status}"
