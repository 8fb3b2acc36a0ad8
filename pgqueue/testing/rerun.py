"""Runs each job twice, to test that tasks are idempotent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pgqueue.app import PgQueue


@contextmanager
def runs_twice(pgq: PgQueue) -> Iterator[None]:
    """Make every worker of *pgq* in this process run each job twice inside this block.

        @pytest.fixture(autouse=True)
        def every_job_twice() -> Iterator[None]:
            with runs_twice(pgq):
                yield

    That is those that run already, from the next job on, those that are made inside the block, `drain` and
    `inline`. The second run happens as if the worker had been lost before it wrote the outcome of the first.
    A task must handle that: the steps that the first run stored are kept; its writes in `ctx.transaction()`
    are not. Both runs must end with the same status and result. Otherwise the job fails with the reason
    `not_idempotent`, and its error describes both. Jobs that never run again after a loss (`max_losses=0`,
    `acks_late=False`) run once.
    """
    with pgq.running_twice():
        yield
