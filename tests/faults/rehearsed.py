"""The program of the upgrade rehearsal, for pgqueue of any version since schema 7. By itself it enqueues."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from uuid import uuid4

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


async def main() -> None:
    """Enqueue until told to stop; note what was acknowledged, and what was refused."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with (Path(os.environ["FAULTS_RECORDS"]) / f"{uuid4()}.acknowledged").open("w") as notes:
        async with pgq:
            while not stop.is_set():
                try:
                    handles = await pgq.enqueue_many([plain.s(), flaky.s(), plain.s()])
                except Exception as error:
                    print(f"refused {type(error).__name__}: {error}".split("\n")[0], file=notes, flush=True)
                else:
                    print(*(handle.id for handle in handles), file=notes, flush=True)
                await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
