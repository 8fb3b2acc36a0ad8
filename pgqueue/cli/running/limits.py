"""When a worker process has done enough: it retires, and another one takes its place."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio

from pgqueue import PgQueue
from pgqueue.events.attempts import AttemptsEnded
from pgqueue.events.kinds import Event
from pgqueue.worker.lease.own_memory import memory_of_process

logger = logging.getLogger("pgqueue.cli")

MIB: Final = 2**20
LOOK_EVERY: Final = 0.5
"""Seconds between two looks at the memory."""


@dataclass(frozen=True)
class ProcessLimits:
    """How much a worker process does before it retires; None: without a limit."""

    jobs: int | None = None
    """Attempts that it ends."""
    rss: int | None = None
    """MiB of memory that it has."""

    @property
    def are_set(self) -> bool:
        """Whether there is one."""
        return self.jobs is not None or self.rss is not None

    async def wait_reached(self, pgq: PgQueue) -> None:
        """Wait until this process, with the workers of *pgq*, has reached one of them."""
        reached = anyio.Event()
        if self.jobs is not None:
            pgq.observe(_Counting(self.jobs, reached.set).observe, AttemptsEnded)
        rss = self.rss
        if rss is not None and (at_first := resident() // MIB) >= rss:
            logger.error(
                "--max-rss=%d is ignored: this process has %d MiB before its first job; raise it",
                rss,
                at_first,
            )
            rss = None
        while not reached.is_set():
            with anyio.move_on_after(LOOK_EVERY if rss is not None else None):
                await reached.wait()
            if rss is not None and (now := resident() // MIB) >= rss:
                logger.info("this process has %d MiB of memory, --max-rss=%d; it retires", now, rss)
                return
        logger.info("this process has ended %d attempts, --max-jobs; it retires", self.jobs)


class _Counting:
    def __init__(self, left: int, reached: Callable[[], object]) -> None:
        self._left = left
        self._reached = reached

    def observe(self, event: Event) -> None:
        if isinstance(event, AttemptsEnded):
            self._left -= len(event.attempts)
            if self._left <= 0:
                self._reached()


def resident() -> int:
    """Return the bytes of memory that this process has; or the most it has had, where no more is told."""
    if (now := memory_of_process()) is not None:
        return now
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
