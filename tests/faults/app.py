"""The program under test: tasks of every kind, which note when they start and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from faults.load import SLOTS
from faults.records import Notebook
from pgqueue import JobContext, PgQueue
from pgqueue.events import AttemptsEnded, AttemptsFenced, Event, JobsRescued

notebook = Notebook(Path(os.environ["FAULTS_RECORDS"]))
# Losses have a bound of their own, which a run of many kills would reach; a handler whose connection was cut
# is tried again soon.
pgq = PgQueue(
    os.environ["FAULTS_DSN"],
    max_losses=100_000,
    max_retries=1000,
    default_retry_delay=0.2,
    retry_backoff=False,
    **json.loads(os.environ.get("FAULTS_OPTIONS", "{}")),
)


def observe(event: Event) -> None:
    """Note what this process learns of outcomes."""
    if isinstance(event, AttemptsEnded):
        for ended in event.attempts:
            notebook.note(
                "accepted",
                job=str(ended.job_id),
                attempt=ended.attempt,
                status=ended.status.value,
                reason=ended.reason,
            )
    elif isinstance(event, AttemptsFenced):
        notebook.note("fenced", jobs=[str(job) for job in event.job_ids])
    elif isinstance(event, JobsRescued):
        notebook.note("rescued", worker=event.worker, jobs=[str(job.job_id) for job in event.jobs])


pgq.observe(observe, AttemptsEnded, AttemptsFenced, JobsRescued)


@contextmanager
def noted(ctx: JobContext, n: int, worker: int | None = None) -> Iterator[None]:
    """Note start and end of one execution of a handler, in the process *worker* (None: this one)."""
    run = uuid4().hex
    notebook.note(
        "start",
        run=run,
        job=str(ctx.job_id),
        task=ctx.task,
        n=n,
        attempt=ctx.attempt,
        worker=worker or os.getpid(),
        name=ctx.worker,
    )
    try:
        yield
    except BaseException as error:
        notebook.note("end", run=run, how=type(error).__name__, text=str(error)[:300])
        raise
    notebook.note("end", run=run, how="ok")


@pgq.task
async def plain(ctx: JobContext, n: int, seconds: float) -> int:
    """Take a while."""
    with noted(ctx, n):
        await asyncio.sleep(seconds)
    return n


@pgq.task
def thread(ctx: JobContext, n: int, seconds: float) -> int:
    """Take a while in a thread."""
    with noted(ctx, n):
        time.sleep(seconds)
    return n


@pgq.task(isolation="process")
def isolated(ctx: JobContext, n: int, seconds: float) -> int:
    """Take a while in a child of the worker."""
    with noted(ctx, n, worker=os.getppid()):
        time.sleep(seconds)
    return n


@pgq.task(acks_late=False)
async def once(ctx: JobContext, n: int, seconds: float) -> int:
    """Run at most once."""
    with noted(ctx, n):
        await asyncio.sleep(seconds)
    return n


@pgq.task(reject_on_worker_lost=False)
async def fragile(ctx: JobContext, n: int, seconds: float) -> int:
    """Fail if the worker is lost."""
    with noted(ctx, n):
        await asyncio.sleep(seconds)
    return n


@pgq.task(max_retries=0)
async def poison(ctx: JobContext, n: int, seconds: float) -> int:
    """End the whole process."""
    with noted(ctx, n):
        await asyncio.sleep(seconds)
        notebook.note("killed", pid=os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pgq.task(timeout=2.0, max_retries=0)
async def block(ctx: JobContext, n: int, seconds: float) -> int:
    """Keep the event loop from turning, past the hard limit."""
    with noted(ctx, n):
        time.sleep(seconds)  # noqa: ASYNC251  # what no coroutine should do
    return n


@pgq.task
async def money(ctx: JobContext, n: int, seconds: float) -> int:
    """Write to the database in the transaction that ends the job."""
    with noted(ctx, n):
        await asyncio.sleep(seconds)
        async with ctx.transaction() as connection:
            await connection.execute("insert into public.ledger (job_id, n) values ($1, $2)", ctx.job_id, n)
    return n


async def charge(n: int) -> str:
    """Do what must be done once, as far as anybody can know."""
    return f"receipt-{n}-{uuid4().hex}"


@pgq.task
async def stepper(ctx: JobContext, n: int, seconds: float) -> int:
    """Note the receipt that a step came to, each time the handler runs."""
    with noted(ctx, n):
        receipt = await ctx.step("charge", charge, n)
        notebook.note("receipt", job=str(ctx.job_id), receipt=receipt)
        await asyncio.sleep(seconds)
    return n


@pgq.task
async def flaky(ctx: JobContext, n: int, seconds: float) -> int:
    """Fail now and then, and succeed in the end."""
    with noted(ctx, n):
        await asyncio.sleep(seconds)
        if (n + ctx.attempt) % 2 == 0 and ctx.attempt < 4:
            raise RuntimeError("as it must")
    return n


@pgq.task(ordered_by="key", on_dead="skip")
async def ordered(ctx: JobContext, n: int, seconds: float, key: str) -> int:
    """Run after those of its key that came before it; fail once, now and then."""
    with noted(ctx, n):
        await asyncio.sleep(seconds)
        if n % 5 == 0 and ctx.attempt == 1:
            raise RuntimeError("as it must")
    return n


@pgq.task(limits=[pgq.limit("limited", slots=SLOTS).by("key")])
async def limited(ctx: JobContext, n: int, seconds: float, key: str) -> int:
    """Run beside few of its key."""
    with noted(ctx, n):
        await asyncio.sleep(seconds)
    return n


@pgq.task
async def link(ctx: JobContext, before: int, seconds: float) -> int:
    """Add one to what the link before has come to."""
    with noted(ctx, before + 1):
        await asyncio.sleep(seconds)
    return before + 1


@pgq.task
async def body(ctx: JobContext, results: list[int], expected: list[int]) -> int:
    """Take the results of a group, once all have succeeded."""
    with noted(ctx, len(expected)):
        assert results == expected, (results, expected)
    return len(expected)
