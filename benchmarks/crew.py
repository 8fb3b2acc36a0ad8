"""Workers and feeders for benchmarks, each a process of its own that answers a line with a line.

A worker says what it has done so far, a feeder enqueues as many jobs as the line says. A drain is timed by
what the workers note: from the first claim that brought jobs to the last outcome's commit, by the machine's
one monotonic clock. Nobody awaits a result meanwhile, so nobody is told of any.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import common

from pgqueue import Canvas, PgQueue, Signature, chord
from pgqueue.events import BatchSent, Event

BATCH = 10_000
FED_BATCH = 1_000
QUEUE = "default"
LOOK_EVERY = 0.1
"""Seconds between two looks at the workers' counts during a drain."""

HANDLERS = {"noop": "do nothing", "nap": "sleep 1 ms", "burn": "burn 100 microseconds"}


def handlers(text: str) -> list[str]:
    """Return the names in a text like `noop,burn`: the type of an option."""
    names = text.split(",")
    if not HANDLERS.keys() >= set(names):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(HANDLERS)}")
    return names


def make_queue(dsn: str) -> PgQueue:
    """Return the queue of all processes."""
    pgq = PgQueue(dsn)

    @pgq.task
    async def noop(to: str, number: int, amount: float) -> None:
        """Do nothing."""

    @pgq.task
    async def nap(to: str, number: int, amount: float) -> None:  # noqa: ARG001  # validated, as noop's are
        """Wait, as handlers do."""
        await asyncio.sleep(0.001)

    @pgq.task
    async def burn(to: str, number: int, amount: float) -> None:  # noqa: ARG001
        """Compute, as handlers should not."""
        ends_at = time.thread_time() + 100e-6
        while time.thread_time() < ends_at:
            pass

    @pgq.task
    async def clock(number: int) -> float:  # noqa: ARG001
        """Say when this started."""
        return time.monotonic()

    @pgq.task
    async def member(to: str, number: int, amount: float) -> float:  # noqa: ARG001
        """Say when this ended."""
        return time.monotonic()

    @pgq.task
    async def body(ends: list[float]) -> float:
        """Say how long after the last of them this started."""
        return time.monotonic() - max(ends)

    @pgq.task
    async def link(before: float) -> float:  # noqa: ARG001  # the one before has it to give
        """Say when this started."""
        return time.monotonic()

    return pgq


def calls(pgq: PgQueue, handler: str, count: int) -> list[Signature[Any]]:
    """Return *count* calls of one of HANDLERS, or of `member`."""
    return [pgq.signature(handler, "user@example.com", number, 1.5) for number in range(count)]


def chord_of(pgq: PgQueue, members: Iterable[Canvas[float]]) -> Canvas[float]:
    """Return a chord of calls of `member`, or of chords."""
    body: Any = pgq.signature("body")
    composed: Canvas[float] = chord(members, body)
    return composed


# What benchmarks do with them


@asynccontextmanager
async def workers(dsn: str, count: int, *, concurrency: int, loop: str) -> AsyncIterator[list[Process]]:
    """Run worker processes, which claim when this yields, and end them."""
    async with AsyncExitStack() as stack:
        crew = [
            await stack.enter_async_context(
                common.part(__file__, dsn, f"--concurrency={concurrency}", f"--loop={loop}")
            )
            for _ in range(count)
        ]
        for process in crew:
            await common.line_of(process)
        yield crew


@asynccontextmanager
async def feeder(dsn: str, *, loop: str) -> AsyncIterator[Process]:
    """Run a process that enqueues; see `feed`."""
    async with common.part(__file__, dsn, "--feed", f"--loop={loop}") as process:
        await common.line_of(process)
        yield process


async def feed(process: Process, count: int) -> int:
    """Have *count* no-op jobs enqueued; return how many the feeder has enqueued in all."""
    total: int = await common.ask(process, str(count))
    return total


async def counts(crew: Sequence[Process]) -> list[dict[str, float]]:
    """Return what each worker has counted since it started: see Counts."""
    return [await common.ask(process) for process in crew]


async def wait_finished(crew: Sequence[Process], jobs: int) -> list[dict[str, float]]:
    """Wait until the workers have finished so many jobs since they started; return their counts."""
    while True:
        now = await counts(crew)
        if sum(each["finished"] for each in now) >= jobs:
            return now
        await asyncio.sleep(LOOK_EVERY)


async def drain(
    dsn: str,
    crew: Sequence[Process],
    handler: str,
    jobs: int,
    *,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> common.Figures:
    """Enqueue *jobs* jobs while their queue is paused; then have the crew drain them: see drain_what."""

    async def enqueue(pgq: PgQueue) -> None:
        for first in range(0, jobs, BATCH):
            await pgq.enqueue_many(calls(pgq, handler, min(BATCH, jobs - first)))

    return await drain_what(dsn, crew, enqueue, jobs, beside=beside)


async def drain_what(
    dsn: str,
    crew: Sequence[Process],
    enqueue: Callable[[PgQueue], Coroutine[Any, Any, None]],
    jobs: int,
    *,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> common.Figures:
    """Have *enqueue* enqueue *jobs* jobs while their queue is paused; then have the crew drain them.

    *beside* runs during the drain, and is cancelled at its end. Returns the rate, the claims, and what the
    workers have used.
    """
    before = await counts(crew)
    watcher = await asyncpg.connect(dsn)
    succeeded = "select count(*) from pgqueue.job where status = 'succeeded'"
    succeeded_before = await watcher.fetchval(succeeded)
    async with make_queue(dsn) as pgq:
        await pgq.pause(queue=QUEUE)
        await enqueue(pgq)
        # What follows starts from the same state of the tables each time.
        await watcher.execute("vacuum analyze")
        await watcher.execute("checkpoint")
        for process in crew:
            await common.ask(process, "anew")
        async with common.meanwhile(beside):
            await pgq.resume(queue=QUEUE)
            now = await wait_finished(crew, sum(int(each["finished"]) for each in before) + jobs)
    if await watcher.fetchval(succeeded) - succeeded_before != jobs:
        raise SystemExit(f"benchmark: not all of {jobs} jobs succeeded: nothing measured")
    await watcher.close()
    seconds = max(each["last_finish_at"] for each in now) - min(each["first_claim_at"] for each in now)
    claims, empty, cpu = (
        sum(each[name] for each in now) - sum(each[name] for each in before)
        for name in ("claims", "empty_claims", "cpu_seconds")
    )
    return {
        "jobs_per_s": jobs / seconds,
        "claims_per_1000_jobs": 1000 * claims / jobs,
        "empty_claims_share": empty / claims,
        "worker_cpu_us_per_job": cpu / jobs * 1e6,
    }


# What they are


class Counts:
    """What a worker has done: an observer of its batches."""

    def __init__(self) -> None:
        self.claims = 0
        self.empty_claims = 0
        self.finished = 0
        self.anew()

    def anew(self) -> None:
        """Forget when the first and the last were."""
        self.first_claim_at = math.inf
        self.last_finish_at = -math.inf

    def hear(self, event: Event) -> None:
        """Count a batch."""
        assert isinstance(event, BatchSent)
        now = time.monotonic()
        if event.verb == "finish":
            self.finished += event.size
            self.last_finish_at = now
        elif event.verb == "claim":
            self.claims += 1
            self.empty_claims += not event.size
            if event.size:
                self.first_claim_at = min(self.first_claim_at, now - event.seconds)

    def said(self) -> dict[str, float]:
        """Return it, with what the process has used; times are of the monotonic clock."""
        return {**vars(self), "cpu_seconds": time.process_time(), "resident_mib": common.resident_mib()}


async def answer(answers: Callable[[str], Any]) -> None:
    """Print what *answers* returns for each line of standard input, until that ends."""
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        reply = answers(line.strip())
        print(json.dumps(await reply if asyncio.iscoroutine(reply) else reply), flush=True)


async def work(dsn: str, concurrency: int) -> None:
    """Be a worker; the line `anew` has a drain begin."""
    pgq, counted = make_queue(dsn), Counts()
    pgq.observe(counted.hear, BatchSent)

    def say(line: str) -> dict[str, float]:
        if line == "anew":
            counted.anew()
        return counted.said()

    async with pgq, pgq.worker(concurrency=concurrency) as worker:
        await worker.wait_ready()
        await answer(say)


async def enqueue(dsn: str) -> None:
    """Be a feeder."""
    pgq, total = make_queue(dsn), 0

    async def add(line: str) -> int:
        nonlocal total
        for first in range(0, int(line), FED_BATCH):
            await pgq.enqueue_many(calls(pgq, "noop", min(FED_BATCH, int(line) - first)))
        total += int(line)
        return total

    async with pgq:
        await answer(add)


def main() -> None:
    """Be a worker or a feeder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dsn")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--feed", action="store_true", help="enqueue, and do not work")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    options = parser.parse_args()
    common.run(
        options.loop, lambda: enqueue(options.dsn) if options.feed else work(options.dsn, options.concurrency)
    )


if __name__ == "__main__":
    main()
