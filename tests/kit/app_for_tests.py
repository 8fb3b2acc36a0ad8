"""Tasks for worker processes that tests start, and kill: `python -m kit.app_for_tests SETTINGS`.

What a handler does is written to the table `execution`, so that a test can count it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from kit import inside
from pgqueue import JobContext, PgQueue

pgq = PgQueue(os.environ.get("PGQUEUE_TEST_DSN", "postgresql://not-a-worker-process/"))


async def make_tables(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Make what the handlers write to."""
    await connection.execute(
        "create table execution (job_id uuid not null, worker text not null, "
        "at timestamptz not null default clock_timestamp());"
        "create table effect (job_id uuid not null, key text);"
        "create table stay (id serial, key text not null, worker text not null, "
        "  began_at timestamptz not null default clock_timestamp(), ended_at timestamptz);"
        "create table death (worker text primary key, at timestamptz not null default clock_timestamp())"
    )


async def record_execution(context: JobContext) -> None:
    """Write down, durably, that the handler of this job has started."""
    async with inside.database(pgq).acquire() as connection:
        await connection.execute(
            "insert into public.execution (job_id, worker) values ($1, $2)", context.job_id, context.worker
        )


@pgq.task
async def work(context: JobContext, number: int) -> int:
    """Take a moment."""
    await record_execution(context)
    await asyncio.sleep(0.02)
    return number


@pgq.task
async def quick(number: int) -> int:
    """Take no time."""
    return number


@pgq.task
async def total(context: JobContext, numbers: list[int]) -> int:
    """Take what members came to."""
    await record_execution(context)
    return sum(numbers)


@pgq.task
async def hang_at_first(context: JobContext) -> str:
    """Never return in the first worker that runs it."""
    await record_execution(context)
    if context.losses == 0:
        await asyncio.sleep(3600)
    return context.worker


@pgq.task(acks_late=False)
async def once(context: JobContext) -> None:
    """Never return, and never run again."""
    await record_execution(context)
    await asyncio.sleep(3600)


@pgq.task
async def block_the_loop(context: JobContext, seconds: float) -> None:
    """Do what no coroutine should."""
    await record_execution(context)
    time.sleep(seconds)  # noqa: ASYNC251


@pgq.task
async def write_in_transaction(context: JobContext) -> int:
    """Write once, together with success."""
    await record_execution(context)
    async with context.transaction() as connection:
        await connection.execute("insert into effect (job_id) values ($1)", context.job_id)
    return 7


@pgq.task
async def charge_in_step(context: JobContext) -> int:
    """Have an effect elsewhere, in a step."""
    await record_execution(context)

    async def charge(key: str) -> int:
        async with inside.database(pgq).acquire() as connection:
            await connection.execute(
                "insert into public.effect (job_id, key) values ($1, $2)", context.job_id, key
            )
        return 7

    return await context.step("charge", charge, context.idempotency_key_for("charge"))


KEYED_SLOTS, QUEUE_SLOTS = 2, 4
pgq.queue("narrow", slots=QUEUE_SLOTS)


@pgq.task(limits=[pgq.limit("keyed", slots=KEYED_SLOTS).by("key")], queue="narrow", max_losses=100)
async def stay(context: JobContext, key: str) -> None:
    """Write down, by the database's clock, from when to when it runs."""
    async with inside.database(pgq).acquire() as connection:
        number = await connection.fetchval(
            "insert into public.stay (key, worker) values ($1, $2) returning id", key, context.worker
        )
    await asyncio.sleep(0.05)
    async with inside.database(pgq).acquire() as connection:
        await connection.execute("update public.stay set ended_at = clock_timestamp() where id = $1", number)


@pgq.task
async def hang_in_mutex(context: JobContext) -> str:
    """Hold what only one may; never return in the first worker that runs it."""
    async with pgq.mutex("door"), inside.database(pgq).acquire() as connection:
        await connection.execute(
            "create table if not exists public.at_once (at_once bigint);"
            "insert into public.at_once select count(*) from pgqueue.limiter_hold join pgqueue.running "
            "using (job_id, lease_id, claimed_at) where since is not null"
        )
        if context.worker == "victim":
            await asyncio.sleep(3600)
    return context.worker


async def main(settings: dict[str, Any]) -> None:
    """Work until killed."""
    async with pgq, pgq.worker(**settings):
        await asyncio.Event().wait()


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, dsn: str, settings: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kit.app_for_tests", json.dumps(settings)],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "PGQUEUE_TEST_DSN": dsn},
        )

    def kill(self) -> None:
        """End it with SIGKILL, wherever it is."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def worker_process(dsn: str, **settings: Any) -> Iterator[WorkerProcess]:
    """Run a worker in a process of its own; kill it in the end."""
    process = WorkerProcess(dsn, settings)
    try:
        yield process
    finally:
        process.kill()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
