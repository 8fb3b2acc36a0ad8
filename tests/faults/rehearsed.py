"""The program of the upgrade rehearsal, for pgqueue of any version since schema 7. By itself it enqueues.

What a version does not know it leaves out: limits, ordered keys and workflows come with later schemas. Its
tasks are the same, so that each version runs what the other enqueues.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pgqueue
from pgqueue import JobContext, PgQueue

pgq = PgQueue(os.environ["FAULTS_DSN"], max_losses=1000)


@pgq.task
async def plain(ctx: JobContext) -> None:
    """Say that it has run."""
    async with ctx.transaction() as connection:
        await connection.execute("insert into public.ledger (job_id, n) values ($1, 0)", ctx.job_id)


@pgq.task(max_retries=9, default_retry_delay=0.1, retry_backoff=False)
async def flaky(ctx: JobContext) -> None:
    """Fail once."""
    if ctx.attempt == 1:
        raise RuntimeError("as it must")
    async with ctx.transaction() as connection:
        await connection.execute("insert into public.ledger (job_id, n) values ($1, 1)", ctx.job_id)


LIMITS: dict[str, Any] = {"limits": [pgq.limit("rehearsed", slots=3)]} if hasattr(pgq, "limit") else {}
ORDER: dict[str, Any] = {"ordered_by": "key"} if "ordered_by" in (PgQueue.task.__kwdefaults__ or {}) else {}


async def note(ctx: JobContext) -> None:
    """Say that a job has run."""
    async with ctx.transaction() as connection:
        await connection.execute("insert into public.ledger (job_id, n) values ($1, 2)", ctx.job_id)


@pgq.task(**LIMITS)
async def limited(ctx: JobContext) -> None:
    """Run beside few, where that is known."""
    await note(ctx)


@pgq.task(**ORDER)
async def ordered(ctx: JobContext, key: str) -> None:
    """Run after those of its key, where that is known."""
    await note(ctx)


@pgq.task
async def first(ctx: JobContext) -> None:
    """Begin a chain."""
    await note(ctx)


@pgq.task
async def last(ctx: JobContext) -> None:
    """Go on where the one before has ended."""
    await note(ctx)


async def enqueue(number: int) -> list[str]:
    """Enqueue some of each kind that this version knows; return their ids."""
    calls = [plain.s(), flaky.s(), plain.s(), limited.s(), ordered.s(key=f"key-{number % 3}")]
    ids = [str(handle.id) for handle in await pgq.enqueue_many(calls)]
    if hasattr(pgqueue, "chain") and number % 4 == 0:
        # All of it has run, once its last has. No results are passed on: workers from before workflows fail
        # a job whose arguments come from others, which docs/how-to/upgrade.md says.
        ids.append(str((await pgqueue.chain(first.s(), last.si(), last.si()).enqueue()).id))
    return ids


async def main() -> None:
    """Enqueue until told to stop; note what was acknowledged, and what was refused."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with (Path(os.environ["FAULTS_RECORDS"]) / f"{uuid4()}.acknowledged").open("w") as notes:
        async with pgq:
            for number in itertools.count():
                if stop.is_set():
                    break
                try:
                    ids = await enqueue(number)
                except Exception as error:
                    print(f"refused {type(error).__name__}: {error}".split("\n")[0], file=notes, flush=True)
                else:
                    print(*ids, file=notes, flush=True)
                await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main())
