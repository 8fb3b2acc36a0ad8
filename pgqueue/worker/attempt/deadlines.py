"""Watches the time limits of the attempts under way, off the path of jobs that end before their limits.

Most jobs do, and a timer for each cost them more than a comparison does. So about once a second this looks at
what runs, and sets a timer where a limit is near.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection
from typing import Final

from pgqueue.worker.attempt.attempt import CONCLUDING, RunningAttempt, Stop

SCAN: Final = 1.0
"""Seconds between two looks."""
NEAR: Final = 2.5
"""A limit that is closer than this many seconds has a timer. More than a scan: a busy loop scans late."""


def next_limit(attempt: RunningAttempt) -> float:
    """Return the monotonic time of the next limit of *attempt*; infinite: there is none."""
    policy = attempt.policy
    if policy is None or not attempt.started or attempt.is_stopped or attempt.phase is CONCLUDING:
        return math.inf
    limit = policy.timeout if attempt.is_soft_sent or policy.soft_timeout is None else policy.soft_timeout
    return math.inf if limit is None else attempt.started + limit


def hard_limit(attempt: RunningAttempt) -> float:
    """Return the monotonic time of the hard limit of *attempt*; infinite without one."""
    if attempt.policy is None or attempt.policy.timeout is None or not attempt.started:
        return math.inf
    return attempt.started + attempt.policy.timeout


class Deadlines:
    """Interrupts attempts at their soft limit, stops them at the hard one, abandons those that do not stop.

    *attempts* are those under way; *grace* is the seconds that a stopped one has to end; *abandon* is called
    with one that did not, *lost* with one whose asyncio task has ended without an outcome.
    """

    def __init__(
        self,
        attempts: Collection[RunningAttempt],
        *,
        grace: float,
        abandon: Callable[[RunningAttempt], None],
        lost: Callable[[RunningAttempt], None] | None = None,
    ) -> None:
        self._attempts = attempts
        self._grace = grace
        self._abandon = abandon
        self._lost = lost

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(SCAN)
            self.scan(time.monotonic())

    def scan(self, now: float) -> None:
        """Set the timers of limits that are near."""
        lost: list[RunningAttempt] = []
        for attempt in self._attempts:
            if attempt.timer is None and next_limit(attempt) - now <= NEAR:
                self.watch(attempt)
            if attempt.runner is not None and attempt.runner.done():
                # Cancelled by another handler before its first step.
                lost.append(attempt)
        if self._lost is not None:
            for attempt in lost:
                self._lost(attempt)

    def watch(self, attempt: RunningAttempt) -> None:
        """Set the timer for the next limit of *attempt*, whose first may come before the next scan."""
        delay = next_limit(attempt) - time.monotonic()
        if delay <= NEAR:
            attempt.timer = asyncio.get_running_loop().call_later(max(0.0, delay), self._reached, attempt)

    def stop(self, attempt: RunningAttempt, reason: Stop) -> None:
        """Stop *attempt*, and abandon it if it has not ended after the grace."""
        was_stopped = attempt.is_stopped
        attempt.stop(reason)
        if attempt.is_stopped and not was_stopped:
            self.expect_end(attempt)

    def expect_end(self, attempt: RunningAttempt) -> None:
        """Abandon an attempt that was stopped, if it has not ended after the grace."""
        self.forget(attempt)
        attempt.timer = asyncio.get_running_loop().call_later(self._grace, self._abandon, attempt)

    @staticmethod
    def forget(attempt: RunningAttempt) -> None:
        """Cancel the timer of an attempt."""
        if attempt.timer is not None:
            attempt.timer.cancel()
            attempt.timer = None

    def _reached(self, attempt: RunningAttempt) -> None:
        attempt.timer = None
        now = time.monotonic()
        if now >= hard_limit(attempt):
            self.stop(attempt, Stop.TIMEOUT)
            return
        if next_limit(attempt) <= now:
            attempt.interrupt_softly()
        self.watch(attempt)
