"""What keeps a loop of the background alive, and says whether it is.

A loop that ends leaves its callers waiting in silence. So no error ends one: it is logged, and the loop goes
on after a pause. What ends a loop all the same (a cancellation that nobody meant) is known afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from pgqueue.database.failing import log_fields
from pgqueue.database.outages import RECONNECT_PAUSES, REMIND_AFTER
from pgqueue.database.patience import Reminder
from pgqueue.errors import BackgroundError, NotOpenError, PgQueueError
from pgqueue.own_tasks import was_asked

logger = logging.getLogger("pgqueue.background")

STUCK_AFTER: Final = 60.0
"""Seconds after which a step that has not ended counts as stuck. A statement is given up much sooner."""


class Loop:
    """One loop of an open PgQueue. *name* says in errors and logs what it does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_closing = False
        """Whether the PgQueue is being closed, so that an end is meant."""
        self._has_ended = False
        self._steps: dict[object, float] = {}
        self._failing_since: float | None = None
        self._reminder = Reminder()

    def prepare(self) -> None:
        """Forget the life before: the loop is about to start."""
        self.is_closing = self._has_ended = False
        self._steps.clear()
        self._failing_since = None

    def check(self) -> None:
        """Raise BackgroundError if the loop has ended, because nobody would answer."""
        if self._has_ended:
            raise BackgroundError(self._sentence("has ended"))

    def end_error(self, meanwhile: str) -> PgQueueError:
        """Return the error for callers that the end of the loop has left without an answer."""
        if self.is_closing:
            return NotOpenError(f"this PgQueue was closed while {meanwhile}")
        return BackgroundError(self._sentence(f"has ended while {meanwhile}"))

    def problem(self) -> str | None:
        """Return why the loop does not do its work; None: it does. Safe from any thread."""
        now = time.monotonic()
        began = min(self._steps.copy().values(), default=now)
        failing_since = self._failing_since
        if self._has_ended:
            return self._sentence("has ended")
        if now - began > STUCK_AFTER:
            return self._sentence(f"has been stuck for {now - began:.0f} s")
        if failing_since is not None and now - failing_since > STUCK_AFTER:
            return self._sentence(f"has been failing for {now - failing_since:.0f} s")
        return None

    def _sentence(self, what: str) -> str:
        return f"the background loop for {self.name} {what}"

    @contextmanager
    def lifetime(self) -> Iterator[None]:
        """Note the end of the loop, however it ends."""
        try:
            yield
        finally:
            self._has_ended = True

    @contextmanager
    def step(self) -> Iterator[None]:
        """Do one step, which must not take longer than STUCK_AFTER. One that succeeds ends a failure."""
        key = object()
        self._steps[key] = time.monotonic()
        try:
            yield
            self._failing_since = None
        finally:
            del self._steps[key]

    async def outlive(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Call *serve*, again after each error, until it returns or is cancelled."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await serve()
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and was_asked():
                    raise
                # After a while without errors, the next one is the first of its kind again.
                failures = 0 if time.monotonic() - began > REMIND_AFTER else failures + 1
                pause = RECONNECT_PAUSES[min(failures, len(RECONNECT_PAUSES) - 1)]
                self._say(error, pause)
                await anyio.sleep(pause)
            else:
                return

    def _say(self, error: BaseException, pause: float) -> None:
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        logger.log(
            self._reminder.level(logging.ERROR),
            "%s: %s: %s; trying again in %g s",
            self.name,
            type(error).__name__,
            error,
            pause,
            exc_info=error,
            extra=log_fields(error),
        )
