"""Runs the chores of the upkeep, each when it is due, one after the other on one connection.

A chore that fails does not stop the others. Its error is logged with what happens next; it is tried again
after a pause that grows; the others go on as if nothing had happened. Nothing but cancellation ends the
rounds, and so no error here ends the worker.

If the database is unavailable, no chore is to blame. That is logged once and not for each chore, and the
chores begin anew when it is available again: what they had observed before may not be true any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

import anyio

from pgqueue.database.failing import log_fields, statement_of
from pgqueue.database.outages import PASSING_ERRORS, RECONNECT_PAUSES, is_away, told
from pgqueue.database.patience import Reminder
from pgqueue.events.kinds import WorkErrorIsolated
from pgqueue.events.observers import Observers
from pgqueue.own_tasks import was_asked
from pgqueue.tasks.registry import Registry
from pgqueue.upkeep.ageing import Ageing
from pgqueue.upkeep.attending import Attending, Attends, Sweeping, SweepingGates, SweepingLimiters
from pgqueue.upkeep.bulk import Bulk
from pgqueue.upkeep.cancelling import Attempts, Cancelling
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.expiring import Expiring
from pgqueue.upkeep.partitioning import Partitioning
from pgqueue.upkeep.placing import Placing
from pgqueue.upkeep.promoting import Promoting, Waking
from pgqueue.upkeep.reconfiguring import Reconfiguring
from pgqueue.upkeep.redriving import Redriving
from pgqueue.upkeep.removing_lanes import RemovingLanes
from pgqueue.upkeep.rescuing import Rescuing
from pgqueue.upkeep.tidying import tidying_chores
from pgqueue.upkeep.tools import Tools
from pgqueue.upkeep.unblocking import Unblocking
from pgqueue.upkeep.unknown_tasks import UnknownTasks
from pgqueue.upkeep.watching_workflows import WatchingWorkflows

logger = logging.getLogger("pgqueue.worker")

FAILURE_PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds until a chore that failed is tried again; the last one repeats."""
PASSING_PAUSES: Final = (1.0, 2.0, 5.0)
"""The same where it lacks a privilege or a table, for example: it goes on soon after that was mended."""


def chores_of(
    tools: Tools,
    registry: Registry,
    attempts: Attempts,
    attender: Attends,
    scheduling: Iterable[Chore],
    unknown_task_grace: float | None,
    lease_ttl: float,
) -> list[Chore]:
    """Make all chores of a worker but the retention, in the order in which a round does them."""
    return [
        Promoting(tools),
        Waking(tools),
        *scheduling,
        Reconfiguring(tools, registry),
        Cancelling(tools, attempts),
        Ageing(tools, registry),
        Rescuing(tools),
        Unblocking(tools),
        Attending(tools, attender),
        Sweeping(tools),
        WatchingWorkflows(tools),
        SweepingGates(tools),
        SweepingLimiters(tools),
        Redriving(tools),
        Bulk(tools),
        Expiring(tools),
        UnknownTasks(tools, registry, unknown_task_grace),
        Partitioning(tools),
        Placing(tools, registry, lease_ttl),
        RemovingLanes(tools),
        *tidying_chores(tools),
    ]


class Rounds:
    """Runs chores until cancelled. *wakeup* is set when a chore may be called for before it is due."""

    def __init__(
        self,
        chores: Iterable[Chore],
        wakeup: asyncio.Event | None = None,
        observers: Observers | None = None,
    ) -> None:
        self._chores = list(chores)
        self._observers = Observers() if observers is None else observers
        self._wakeup = asyncio.Event() if wakeup is None else wakeup
        self._outages = 0
        """How many runs in a row failed because the database was unavailable."""
        self._reminder = Reminder()

    async def run(self) -> None:
        """Do each chore when it is due, and when it is called for."""
        while True:
            # Cleared before looking: what is announced during a round is not slept through.
            self._wakeup.clear()
            if not await self._round():
                await anyio.sleep(RECONNECT_PAUSES[min(self._outages, len(RECONNECT_PAUSES)) - 1])
                continue
            delay = min(chore.due_at for chore in self._chores) - time.monotonic()
            with anyio.move_on_after(max(0.0, delay)):
                await self._wakeup.wait()

    async def _round(self) -> bool:
        """Do what is due; return False as soon as the database is unavailable."""
        # One time for all: chores of one interval stay together, and the worker wakes up once for them.
        now = time.monotonic()
        for chore in self._chores:
            # One that has failed keeps its pause, however often it is called for meanwhile.
            is_called_for = chore.is_called_for and not chore.failures
            if (chore.due_at <= now or is_called_for) and not await self._do(chore, now):
                return False
        return True

    async def _do(self, chore: Chore, now: float) -> bool:
        try:
            pause = await chore.run()
        except asyncio.CancelledError as error:
            if was_asked():
                raise
            # Nobody has cancelled this worker: a library lost a cancellation of its own.
            self._put_off(chore, error)
            return True
        except Exception as error:
            if not is_away(error):
                self._put_off(chore, error)
                return True
            # Put off: an error that only looks like an outage must not keep the others from their turns. Not
            # for long, however long the outage: when it is over, everything is due.
            chore.due_at = time.monotonic() + TICK
            self._tell_away(error)
            for each in self._chores:
                each.forget()
            return False
        chore.due_at = now + pause
        if chore.failures:
            logger.info("upkeep: %s works again after %d failures", chore.name, chore.failures)
            chore.failures = 0
        if self._outages:
            logger.info("upkeep: the database is available again after %d attempts", self._outages)
            self._outages = 0
        return True

    def _put_off(self, chore: Chore, error: BaseException) -> None:
        chore.failures += 1
        pauses = PASSING_PAUSES if isinstance(error, PASSING_ERRORS) else FAILURE_PAUSES
        pause = pauses[min(chore.failures, len(pauses)) - 1]
        chore.due_at = time.monotonic() + pause
        chore.forget()
        _tell_failed(chore, error, pause)
        self._observers.emit(
            WorkErrorIsolated(chore.name, type(error).__name__, statement=statement_of(error))
        )

    def _tell_away(self, error: BaseException) -> None:
        self._outages += 1
        logger.log(
            self._reminder.level(),
            "upkeep: the database is unavailable (%s); trying again every second",
            told(error),
            extra=log_fields(error),
        )


def _tell_failed(chore: Chore, error: BaseException, pause: float) -> None:
    is_passing = isinstance(error, PASSING_ERRORS)
    logger.log(
        chore.reminder.level(logging.WARNING if is_passing else logging.ERROR),
        "upkeep: %s failed (%s); trying again in %g s, other chores continue",
        chore.name,
        told(error),
        pause,
        extra=log_fields(error),
        # Once: later attempts would fill the log with the same traceback.
        exc_info=error if not is_passing and chore.failures == 1 else None,
    )
