"""Runs several worker processes as one: starts them, starts them again, passes signals on.

Knows nothing of jobs. The first SIGTERM or SIGINT is to stop, every one after it to hurry.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat

import anyio

logger = logging.getLogger("pgqueue.supervisor")

RESTART_PAUSES = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a process that died is started again; the last one repeats."""
HEALTHY_AFTER = 60.0
"""Seconds after which a process has proved itself: the pauses begin anew."""

STOPPED = (0, -signal.SIGTERM)
"""How a process ends that was told to: by itself, or by the signal where it did not work yet."""


@contextlib.contextmanager
def on_signals(first: Callable[[], object], further: Callable[[], object]) -> Iterator[None]:
    """Call *first* at the first SIGTERM or SIGINT, and *further* at each one after it."""
    loop = asyncio.get_running_loop()
    reactions = chain([first], repeat(further))

    def react(received: signal.Signals) -> None:
        logger.info("received %s", received.name)
        next(reactions)()

    handled = (signal.SIGTERM, signal.SIGINT)
    for each in handled:
        loop.add_signal_handler(each, react, each)
    try:
        yield
    finally:
        for each in handled:
            loop.remove_signal_handler(each)


class Supervisor:
    """Keeps *processes* processes of *command* running until it is signalled."""

    def __init__(self, command: Sequence[str], processes: int) -> None:
        self._command = command
        self._processes = processes
        self._children: set[asyncio.subprocess.Process] = set()
        self._stopping = anyio.Event()
        self._has_failed = False

    async def run(self) -> bool:
        """Return, once all processes have ended, whether all of them stopped well."""
        with on_signals(self._stop, self._terminate):
            async with anyio.create_task_group() as group:
                for _ in range(self._processes):
                    group.start_soon(self._keep)
        return not self._has_failed

    def _stop(self) -> None:
        self._stopping.set()
        self._terminate()

    def _terminate(self) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()

    async def _keep(self) -> None:
        pauses = chain(RESTART_PAUSES, repeat(RESTART_PAUSES[-1]))
        while not self._stopping.is_set():
            started_at = time.monotonic()
            code = await self._run_child()
            if self._stopping.is_set():
                if code not in STOPPED:
                    logger.error("a worker process ended with %s", _ending(code))
                    self._has_failed = True
                return
            if time.monotonic() - started_at >= HEALTHY_AFTER:
                pauses = chain(RESTART_PAUSES, repeat(RESTART_PAUSES[-1]))
            pause = next(pauses)
            logger.error("a worker process ended with %s: starting another in %g s", _ending(code), pause)
            with anyio.move_on_after(pause):
                await self._stopping.wait()

    async def _run_child(self) -> int:
        # A process group of its own: Ctrl-C in a terminal reaches the whole group, and a child would take
        # it, passed on once more by us, for the second signal.
        child = await asyncio.create_subprocess_exec(*self._command, process_group=0)
        logger.info("started worker process %d", child.pid)
        self._children.add(child)
        if self._stopping.is_set():
            # The signal came while the child was being started and was not passed on to it.
            child.terminate()
        try:
            return await child.wait()
        finally:
            self._children.discard(child)


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
