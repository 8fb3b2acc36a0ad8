"""For the tests of programs that use pgqueue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pgqueue.app import PgQueue


@contextmanager
def runs_twice(pgq: PgQueue) -> Iterator[None]:
    """Have every worker that *pgq* makes inside this block execute each job twice.

        @pytest.fixture(autouse=True)
        def every_job_twice() -> Iterator[None]:
            with runs_twice(pgq):
                yield

    The second execution follows as if the outcome of the first had been lost with its worker, which is what
    a task has to bear: what the first stored in steps is there, what it wrote in `ctx.transaction()` is not.
    Both must end alike, in status and result, or the job has failed for the reason `not_idempotent`, and its
    error names both. Jobs that are never run again after a loss (`max_losses=0`, `acks_late=False`) are
    executed once.
    """
    before, pgq.runs_twice = pgq.runs_twice, True
    try:
        yield
    finally:
        pgq.runs_twice = before
