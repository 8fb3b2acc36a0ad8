"""Runs what is ready, and what comes of it, to its end."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from pgqueue.app import PgQueue
from pgqueue.model.checks import patience
from pgqueue.model.jobs import Job
from pgqueue.testing.opening import opened
from pgqueue.worker import Worker

PAUSE = 0.01
"""Seconds between two looks at what is left."""


async def drain(
    pgq: PgQueue,
    *,
    queues: Sequence[str] | None = None,
    concurrency: int = 10,
    run_twice: bool = False,
    timeout: float | None = 30.0,  # noqa: ASYNC109  # of the jobs, with a message of its own
) -> list[Job]:
    """Run every job that is ready, and all that these enqueue; return the jobs that ended, in that order.

        await register("ann@example.com")
        [welcome] = await drain(pgq)
        assert welcome.status is JobStatus.SUCCEEDED

    A worker in this process runs them, as in production: with retries, limits, workflows and schedules. A job
    that is to run later (a delay, a retry, a `snooze`) is left: let its time come by `Clock.advance`, and
    drain again. A job that fails raises nothing here: look at its status. *queues*: those of the tasks, if
    not given. *run_twice*: see `runs_twice`. A closed PgQueue is opened for the time.

    Raises TimeoutError, which says what is left, if that is not done within *timeout* seconds (None: no
    limit); the jobs that run then return to the queue. Raises what `PgQueue.worker` raises.
    """
    within = patience("drain: timeout", timeout)
    async with opened(pgq):
        since = await pgq.now()
        await pgq.write_schedules()
        worker = pgq.worker(
            queues=queues,
            concurrency=concurrency,
            run_twice=run_twice,
            name="drain",
            grace=0.0,
            cancel_grace=1.0,
        )
        served = sorted(pgq.registry.queues) if queues is None else list(queues)
        async with worker:
            await _finish(pgq, worker, served, within)
        database, store = pgq.beneath()
        async with database.acquire() as connection:
            ids = await store.list_ended(connection, since)
        jobs = await pgq.get_many(ids)
        return [jobs[job_id] for job_id in ids if job_id in jobs]


async def _finish(pgq: PgQueue, worker: Worker, queues: Sequence[str], within: float | None) -> None:
    """Wait until nothing is left that *worker* would do now."""
    database, store = pgq.beneath()
    left: list[str] = []
    with anyio.move_on_after(within) as waiting:
        await worker.wait_ready()
        while worker.is_alive:
            async with database.acquire() as connection:
                left = await store.find_work(connection, queues, pgq.registry.names)
            if not left:
                return
            await anyio.sleep(PAUSE)
    if waiting.cancelled_caught:
        raise TimeoutError(
            f"drain: after {within:g} s there are still {', '.join(left) or 'jobs'}; pass a longer timeout, "
            "or look for a handler that does not end"
        )
    # Raises the error that ended it.
    await worker.wait_stopped()
