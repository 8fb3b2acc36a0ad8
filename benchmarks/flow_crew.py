"""Workers for flow.py: processes with tasks that wait for limits, rates, an order and their tenants' turn.

A process answers the lines of `crew.py`, and one more: `starts`, with what its handlers have noted since it
was last asked. Some tasks note the key, when the job was sent, and when it started, by the machine's one
monotonic clock.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import common
import crew

from pgqueue import PgQueue, Rate
from pgqueue.events import BatchSent

BATCH = 10_000
PATIENCE = 300.0
HOT_SLOTS = 200
RATE, BURST = 200, 20
NAP = 0.02
"""Seconds that a job of `share` takes."""
SHARED = "shared"
LEASE_TTL = 900.0
"""Longer than workers are stopped for."""

starts: list[tuple[int, float, float]] = []
"""Of this process: key, sent at, started at."""


@dataclass(frozen=True, slots=True)
class Start:
    """A job that has started."""

    key: int
    sent_at: float
    started_at: float


def note(key: int, sent_at: float) -> None:
    """Note that a job starts."""
    starts.append((key, sent_at, time.monotonic()))


def declare_plain(pgq: PgQueue) -> None:
    """Declare `plain`, which does nothing."""

    @pgq.task
    async def plain(key: int) -> None:
        """Do nothing."""


def declare_keyed(pgq: PgQueue) -> None:
    """Declare `keyed`: at most one at once for each key."""

    @pgq.task(limits=[pgq.limit("keyed", slots=1).by("key")])
    async def keyed(key: int) -> None:
        """Do nothing."""


def declare_hot(pgq: PgQueue) -> None:
    """Declare `hot`: at most HOT_SLOTS at once, whatever the key."""

    @pgq.task(limits=[pgq.limit("hot", slots=HOT_SLOTS)])
    async def hot(key: int) -> None:
        """Do nothing."""


def declare_ordered(pgq: PgQueue) -> None:
    """Declare `ordered`: of each key one after the other."""

    @pgq.task(ordered_by="key")
    async def ordered(key: int) -> None:
        """Do nothing."""


def declare_rated(pgq: PgQueue) -> None:
    """Declare `rated`: at most RATE a second."""

    @pgq.task(limits=[pgq.limit("rated", rate=Rate(RATE, per=1.0, burst=BURST))])
    async def rated(key: int, sent_at: float) -> None:
        """Say when it started."""
        note(key, sent_at)


def declare_share(pgq: PgQueue) -> None:
    """Declare `share`, in a queue that tenants share."""
    pgq.queue(SHARED, fair_by="key")

    @pgq.task(queue=SHARED)
    async def share(key: int, sent_at: float) -> None:
        """Say when it started, and wait as handlers do."""
        note(key, sent_at)
        await asyncio.sleep(NAP)


TASKS: dict[str, Callable[[PgQueue], None]] = {
    "plain": declare_plain,
    "keyed": declare_keyed,
    "hot": declare_hot,
    "ordered": declare_ordered,
    "rated": declare_rated,
    "share": declare_share,
}


def make_queue(dsn: str, tasks: Sequence[str]) -> PgQueue:
    """Return a queue with *tasks*."""
    pgq = PgQueue(dsn)
    for name in tasks:
        TASKS[name](pgq)
    return pgq


# What flow.py does with them


@asynccontextmanager
async def workers(
    dsn: str, count: int, tasks: Sequence[str], *, concurrency: int, loop: str
) -> AsyncIterator[list[Process]]:
    """Run worker processes, which claim when this yields, and end them."""
    arguments = (dsn, f"--tasks={','.join(tasks)}", f"--concurrency={concurrency}", f"--loop={loop}")
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(common.part(__file__, *arguments)) for _ in range(count)]
        for process in processes:
            await common.line_of(process)
        yield processes


@contextmanager
def stopped(processes: Sequence[Process]) -> Iterator[None]:
    """Have processes do nothing at all meanwhile."""
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)


async def take_starts(processes: Sequence[Process]) -> list[Start]:
    """Return what the processes have noted since they were last asked, earliest start first."""
    noted = [Start(*each) for process in processes for each in await common.ask(process, "starts")]
    return sorted(noted, key=lambda start: start.started_at)


# What they are


async def work(dsn: str, tasks: Sequence[str], concurrency: int) -> None:
    """Be a worker."""
    pgq, counted = make_queue(dsn, tasks), crew.Counts()
    pgq.observe(counted.hear, BatchSent)

    def say(line: str) -> Any:
        if line == "starts":
            noted = starts[:]
            starts.clear()
            return noted
        if line == "anew":
            counted.anew()
        return counted.said()

    # What is left at the end need not end itself: the database is dropped.
    async with pgq, pgq.worker(concurrency=concurrency, lease_ttl=LEASE_TTL, grace=1.0) as worker:
        await worker.wait_ready()
        await crew.answer(say)


def main() -> None:
    """Be a worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dsn")
    parser.add_argument("--tasks", default="plain")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    options = parser.parse_args()
    common.run(options.loop, lambda: work(options.dsn, options.tasks.split(","), options.concurrency))


if __name__ == "__main__":
    main()
