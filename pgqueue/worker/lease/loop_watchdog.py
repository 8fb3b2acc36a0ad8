"""Watches, from another thread, whether the event loop of a worker turns, and finds what blocks it.

A coroutine that computes, or that calls something blocking, stops everything in its process but the lease. A
handler that does so past its hard limit cannot be ended by its own loop: see `blocked_loop`. Python cannot
end a thread, so after that the process is replaced, if it is one of pgqueue's own.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from pgqueue.background.log_writer import AsideLogger
from pgqueue.events.kinds import LoopTurned
from pgqueue.events.observers import Observers
from pgqueue.tasks.context import running_attempt
from pgqueue.worker.attempt.attempt import RunningAttempt
from pgqueue.worker.attempt.deadlines import hard_limit

# A log handler of the program may block, and nothing here may wait for it.
logger = AsideLogger("pgqueue.worker")

BEAT: Final = 0.5
"""Seconds between two times that the loop is asked to turn."""
LOOK: Final = 0.1
"""... and between two looks at a loop that does not."""
BLOCKED_AFTER: Final = 1.0
"""Seconds after which a loop that does not turn counts as blocked, and an attempt as what blocks it."""


class Watchdog:
    """Asks the loop that it is made on to turn; runs on another one, in another thread.

    *attempts* are those under way. *on_overrun* is awaited when an attempt blocks the loop past its hard
    limit, once for each time that the loop is blocked.
    """

    def __init__(
        self,
        attempts: Iterable[RunningAttempt],
        *,
        observers: Observers,
        on_overrun: Callable[[RunningAttempt], Awaitable[None]],
    ) -> None:
        self._attempts = attempts
        self._observers = observers
        self._on_overrun = on_overrun
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._turned_at = time.monotonic()
        self.lag = 0.0
        """Seconds that the loop took to turn when it was last asked, or has taken so far."""

    async def run(self) -> None:
        """Watch until cancelled, or until the loop is closed."""
        while True:
            asked_at = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._turn, asked_at)
            except RuntimeError:
                return
            await asyncio.sleep(BEAT)
            if not self._has_turned_since(asked_at):
                await self._watch_block(asked_at)
            self.lag = max(0.0, self._turned_at - asked_at)

    def _turn(self, asked_at: float) -> None:
        self._turned_at = time.monotonic()
        if self._observers.want(LoopTurned):
            self._observers.emit(LoopTurned(self._turned_at - asked_at))

    def _has_turned_since(self, asked_at: float) -> bool:
        return self._turned_at >= asked_at

    async def _watch_block(self, asked_at: float) -> None:
        """Return when the loop turns again."""
        is_logged = is_overrun = False
        seen: RunningAttempt | None = None
        seen_at = 0.0
        while not self._has_turned_since(asked_at):
            now = time.monotonic()
            self.lag = now - asked_at
            attempt = self._find_attempt()
            if attempt is not seen:
                seen, seen_at = attempt, now
            if self.lag >= BLOCKED_AFTER and not is_logged:
                is_logged = True
                self._log(attempt)
            # Seen for a while: the loop of an overloaded machine is slow to turn as well, by many short
            # steps.
            is_blocking = attempt is not None and now - seen_at >= BLOCKED_AFTER
            if attempt is not None and is_blocking and now >= hard_limit(attempt) and not is_overrun:
                is_overrun = True
                await self._on_overrun(attempt)
            await asyncio.sleep(LOOK)
        if is_logged:
            logger.warning("the event loop runs again after %.1f s", self._turned_at - asked_at)

    def _find_attempt(self) -> RunningAttempt | None:
        """Return the attempt that has the loop now."""
        running = asyncio.current_task(self._loop)
        if running is None:
            return None
        # Copied first: the set belongs to the other thread.
        for attempt in list(self._attempts):
            if attempt.runner is running:
                return attempt
        if sys.version_info >= (3, 12):
            # An asyncio task that the handler started has a copy of the handler's context.
            found = running.get_context().get(running_attempt)
            if isinstance(found, RunningAttempt):
                return found
        return None

    def _log(self, attempt: RunningAttempt | None) -> None:
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001  # documented, for debuggers
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(no stack)\n"
        who = "something" if attempt is None else f"job {attempt.claimed.id} ({attempt.claimed.task})"
        logger.warning(
            "%s blocks the event loop of this process; nothing else runs here until it awaits. Stack:\n%s",
            who,
            stack,
        )
