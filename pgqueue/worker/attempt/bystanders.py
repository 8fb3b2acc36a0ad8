"""Spares the jobs whose handlers another handler has cancelled, as `for task in asyncio.all_tasks()` does.

The worker's own tasks refuse that (`pgqueue/own_tasks.py`), and so it is known who did it. The handlers that
were hit have not failed: their jobs return to the queue, and their attempts do not count. The attempt that
did it is left alone. If it cancelled itself as well, that is a failed attempt. A program that cancels the
worker with all else, as `asyncio.run` does at its end, charges no job either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from typing import Any

from pgqueue.worker.attempt.attempt import RUNNING, RunningAttempt, Stop
from pgqueue.worker.attempt.deadlines import Deadlines

logger = logging.getLogger("pgqueue.worker")


class Bystanders:
    """Knows which of *attempts* were cancelled by what is not theirs."""

    def __init__(self, attempts: Collection[RunningAttempt], deadlines: Deadlines) -> None:
        self._attempts = attempts
        self._deadlines = deadlines
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guilty: set[Any] = set()

    def begin(self) -> None:
        """Heed the running loop from here on."""
        self._loop = asyncio.get_running_loop()

    def spare(self, loop: asyncio.AbstractEventLoop, who: Any) -> None:
        """Spare the attempts that *who* cancels besides an own task of *loop*, which has refused it.

        None: the program does, and the worker obeys.
        """
        if loop is not self._loop:
            return
        if who is not None and who not in self._guilty:
            self._guilty = {who, *(each for each in self._guilty if each in self._attempts)}
            self._tell(who)
        # Before it is known which of them are hit: they may end before this is called again.
        maybe = [
            attempt
            for attempt in self._attempts
            if attempt.phase is RUNNING
            and attempt.runner is not None
            and not attempt.is_stopped
            and attempt not in self._guilty
        ]
        for attempt in maybe:
            attempt.stop_reason = Stop.RELEASE
        # From a thread, too.
        loop.call_soon_threadsafe(self._settle, maybe)

    def _settle(self, maybe: Iterable[RunningAttempt]) -> None:
        for attempt in maybe:
            if attempt.phase is not RUNNING or attempt.runner is None or attempt.runner.done():
                continue
            if attempt.runner.cancelling():
                self._deadlines.expect_end(attempt)
            else:
                attempt.stop_reason = None

    def _tell(self, who: Any) -> None:
        name = (
            f"job {who.claimed.id} ({who.claimed.task}), attempt {who.claimed.attempt}"
            if isinstance(who, RunningAttempt)
            else str(who)
        )
        logger.error(
            "%s: it cancelled asyncio tasks of the worker, which go on; other jobs whose handlers it "
            "cancelled return to the queue",
            name,
        )
