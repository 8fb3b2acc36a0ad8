"""One worker in a process of its own: opened, started, stopped by signals, replaced when it has to be."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count, repeat
from typing import Final

import anyio

from pgqueue import DatabaseUnavailableError, PgQueue, Worker
from pgqueue.cli.queue_options import oddities
from pgqueue.cli.running.lifecycle import exit_now, leave_if_stuck, restart, tune_collector
from pgqueue.cli.running.limits import ProcessLimits
from pgqueue.cli.running.metrics_port import PublishMetrics
from pgqueue.database.outages import RECONNECT_PAUSES
from pgqueue.errors import PgQueueError
from pgqueue.own_tasks import own_task
from pgqueue.processes.memory import return_large_blocks
from pgqueue.processes.supervisor import RECYCLE, on_signals, when_closed

logger = logging.getLogger("pgqueue.cli")

LOG_EVERY = 30
"""Attempts to reach the database between two log records. There is at most one attempt per second."""
BURST_PAUSE: Final = 0.1
"""Seconds between two looks whether anything is left to do."""
LOOKS_IN_VAIN: Final = 2
"""So many looks in a row find nothing before a burst is over: a claim may be under way during one."""


@dataclass(frozen=True)
class Place:
    """A worker process among others."""

    supervisor_pipe: int | None = None
    """Is closed when the supervisor ends; None: there is no supervisor."""
    retire_pipe: int | None = None
    """Written to when this process retires."""
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    is_burst: bool = False
    """Whether it stops when nothing is left to do."""
    queues: Collection[str] | None = None
    """The queues of the worker; None: all that are declared."""
    advises: bool = True
    """Whether it says what is odd about its queues; of several processes, their supervisor does."""


async def work(pgq: PgQueue, make_worker: Callable[[], Worker], place: Place, publish: PublishMetrics) -> int:
    """Run one worker in this process; return the exit code. It stops if its supervisor ends."""
    opening = anyio.CancelScope()
    worker: Worker | None = None

    def stop() -> None:
        opening.cancel()
        if worker is not None:
            worker.stop()

    def release() -> None:
        if worker is not None:
            worker.release()

    with on_signals(stop, release) as was_signalled, when_closed(place.supervisor_pipe, stop):
        async with publish():
            with opening:
                await open_when_up(pgq)
            if opening.cancelled_caught:
                return 0
            code = 0
            try:
                if place.advises:
                    await advise(pgq, place.queues)
                worker = make_worker()
                tune_collector()
                return_large_blocks()
                worker.recycle = partial(
                    _recycle, was_signalled, is_supervised=place.supervisor_pipe is not None
                )
                worker.start()
                if opening.cancel_called:
                    worker.stop()
                try:
                    async with _ending(pgq, worker, place):
                        await worker.wait_stopped()
                except Exception:
                    # The worker has logged the error.
                    logger.error("the worker stopped because of an error; exiting")
                    code = 1
            finally:
                await pgq.close()
        await leave_if_stuck(code)
        return code


@asynccontextmanager
async def _ending(pgq: PgQueue, worker: Worker, place: Place) -> AsyncIterator[None]:
    """End *worker* inside the block when it has done what its place asks for."""
    tasks = []
    if place.limits.are_set:
        tasks.append(own_task(_retire(pgq, worker, place)))
    if place.is_burst:
        tasks.append(own_task(_stop_when_empty(pgq, worker, place)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def _retire(pgq: PgQueue, worker: Worker, place: Place) -> None:
    await place.limits.wait_reached(pgq)
    if place.retire_pipe is not None:
        # Another one starts while this one finishes what it runs.
        with suppress(OSError):
            os.write(place.retire_pipe, b"r")
    worker.retire()


async def _stop_when_empty(pgq: PgQueue, worker: Worker, place: Place) -> None:
    queues = sorted(pgq.registry.queues) if place.queues is None else list(place.queues)
    await worker.wait_ready()
    in_vain = 0
    while worker.is_alive and in_vain < LOOKS_IN_VAIN:
        await anyio.sleep(BURST_PAUSE)
        try:
            is_empty = worker.is_idle and not await _work_left(pgq, queues)
        except DatabaseUnavailableError:
            is_empty = False
        in_vain = in_vain + 1 if is_empty else 0
    logger.info("nothing is left to do in %s; stopping", ", ".join(queues))
    worker.stop()


async def _work_left(pgq: PgQueue, queues: Collection[str]) -> set[str]:
    """Return what a worker of *queues* would do now, in words. Others see to what they run themselves."""
    database, store = pgq.beneath()
    async with database.acquire() as connection:
        kinds = await store.find_work(connection, queues, pgq.registry.names)
    return {*kinds} - {"running jobs", "mass redrives"}


async def advise(pgq: PgQueue, queues: Collection[str] | None) -> None:
    """Log what is odd about a worker of *queues*."""
    try:
        others = await pgq.list_workers(jobs=0)
    except PgQueueError:
        # A role may run workers and not see others.
        return
    served = {queue for each in others if each.is_alive for queue in each.queues}
    for oddity in oddities(pgq, queues, served):
        logger.warning("%s", oddity)


def _recycle(was_signalled: Callable[[], bool], *, is_supervised: bool) -> None:
    """Replace this process, whose event loop a handler blocks; none of its jobs is running any more."""
    if was_signalled():
        exit_now(0)
    if is_supervised:
        exit_now(RECYCLE)
    logger.warning("restarting this process: a handler blocked it past its time limit")
    restart()


async def open_when_up(pgq: PgQueue) -> None:
    """Open *pgq*, waiting for its database without a limit. Raises SchemaError."""
    pauses = chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1]))
    for failures in count():
        try:
            await pgq.open()
        except DatabaseUnavailableError as error:
            if failures % LOG_EVERY == 0:
                logger.warning("waiting for the database; trying again every second: %s", error)
            await anyio.sleep(next(pauses))
        else:
            if failures:
                logger.info("connected to the database after %d attempts", failures + 1)
            return
