"""Runs several worker processes as one: starts them, restarts them, and forwards signals.

It knows nothing about jobs. The first SIGTERM or SIGINT stops the processes; every further one hurries them.
A process that retires says so before it ends, and another one takes its place at once: while it finishes what
it runs, both are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import Final, TypeAlias

import anyio

from pgqueue import forks

logger = logging.getLogger("pgqueue.supervisor")

RESTART_PAUSES = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a process that ended by itself is restarted; the last pause repeats."""
KILLED_PAUSES = (0.2, 0.5, 1.0, 2.0)
"""The same for one that a signal ended. Nothing says that its program is broken, and a job that kills its
process is failed after some losses: those that are left must not wait for their rescuer."""
ALONE_PAUSES = (0.2, 1.0, 2.0, 5.0)
"""The same where no other process is running: one of them always tries."""
KILLED_ALONE_PAUSES = (0.2, 0.5, 1.0)
"""The same again for one that a signal ended. Nobody is left here who would rescue its jobs."""
REPLACED_WITHIN = 1.0
"""Seconds that a process that is replaced has to end, before it is told so more firmly."""
HEALTHY_AFTER = 60.0
"""Seconds after which a process counts as healthy: after it ends, the pauses start over."""

RECYCLE: Final = 75
"""The exit code of a process that must be replaced at once because a handler blocks it."""
Attach: TypeAlias = Callable[[], contextlib.AbstractAsyncContextManager[tuple[str, int]]]

STOPPED = (0, -signal.SIGTERM)
"""The exit codes of a process that was stopped: its own, or the signal's if it had not started to work."""


@contextlib.contextmanager
def on_signals(first: Callable[[], object], further: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Call *first* at the first SIGTERM or SIGINT, and *further* at each one after it.

    Yield a function that tells whether a signal was received. It works while the event loop, which makes the
    calls, is blocked.
    """
    loop = asyncio.get_running_loop()
    # What this process forks is stopped by signals of its own, and does not pass them on to this loop.
    forks.prepare()
    received_early: list[int] = []
    reactions = chain([first], repeat(further))

    def react(received: signal.Signals) -> None:
        logger.info("received %s", received.name)
        next(reactions)()

    handled = (signal.SIGTERM, signal.SIGINT)
    for each in handled:
        loop.add_signal_handler(each, react, each)
        # This replaces the loop's own handler, which does nothing: the loop reads its wakeup descriptor. With
        # ours, unlike with the loop's, a blocking call in the main thread is interrupted.
        signal.signal(each, lambda number, _frame: received_early.append(number))
    try:
        yield lambda: bool(received_early)
    finally:
        for each in handled:
            loop.remove_signal_handler(each)


@contextlib.contextmanager
def when_closed(pipe: int | None, react: Callable[[], object]) -> Iterator[None]:
    """Call *react* when the other end of *pipe* is closed: its holder has ended, in whatever way."""
    if pipe is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def closed() -> None:
        loop.remove_reader(pipe)
        logger.warning("the supervisor has ended; stopping")
        react()

    # Programs that handlers start must not hold it open.
    os.set_inheritable(pipe, False)
    loop.add_reader(pipe, closed)
    try:
        yield
    finally:
        loop.remove_reader(pipe)


class Run:
    """One process in its place: until it ends, or retires."""

    def __init__(self) -> None:
        self.code = 0
        self.error: OSError | None = None
        self.has_retired = False
        self.left = anyio.Event()
        """Set when it has left its place to another: it has retired or ended."""


class Supervisor:
    """Keeps *processes* processes of *command* running until it is signalled.

    Each gets the option `--supervisor-pipe`, with a descriptor that is closed when the supervisor ends, and
    `--retire-pipe`, with one that it writes to when it retires. *attach* is entered for the life of each
    process, and yields a further option and a descriptor to inherit. *until_done*: a process that ends with 0
    is not started anew. *until_changed*: after an error none is, until `replace` is called.
    """

    def __init__(
        self,
        command: Sequence[str],
        processes: int,
        *,
        attach: Attach | None = None,
        until_done: bool = False,
        until_changed: bool = False,
    ) -> None:
        self._command = command
        self._processes = processes
        self._attach = attach
        self._until_done = until_done
        self._until_changed = until_changed
        self._children: set[asyncio.subprocess.Process] = set()
        self._running = 0
        """Processes that are running, or being started."""
        self._generation = 0
        """How often all processes were replaced."""
        self._stopping = anyio.Event()
        self._changed = anyio.Event()
        """Set, and replaced, when a process has ended, and when they are to stop or to be replaced."""
        self._has_failed = False
        self._pipe = -1

    async def run(self) -> bool:
        """Run until all processes have ended. Return whether all of them stopped without an error.

        One that had ended by an error, and was not started anew when the signal came, has not.
        """
        self._pipe, held = os.pipe()
        with on_signals(self._stop, self._terminate), os.fdopen(self._pipe), os.fdopen(held, "w"):
            async with anyio.create_task_group() as self._group:
                for place in range(1, self._processes + 1):
                    self._group.start_soon(self._keep, place)
        return not self._has_failed

    async def replace(self) -> None:
        """End all processes, soon and their jobs with them, and start others at once."""
        self._generation += 1
        self._tell_changed()
        before = set(self._children)
        for end in (asyncio.subprocess.Process.terminate,) * 2 + (asyncio.subprocess.Process.kill,):
            for child in before & self._children:
                with contextlib.suppress(ProcessLookupError):
                    end(child)
            until = time.monotonic() + REPLACED_WITHIN
            while before & self._children and time.monotonic() < until:
                changed = self._changed
                with anyio.move_on_after(REPLACED_WITHIN):
                    await changed.wait()

    def _stop(self) -> None:
        self._stopping.set()
        self._tell_changed()
        self._terminate()

    def _tell_changed(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _terminate(self) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()

    async def _keep(self, place: int) -> None:
        """Keep one process running, whose pauses end at a *place* of its own among those of the others."""
        failures = 0
        while not self._stopping.is_set():
            started_at, generation = time.monotonic(), self._generation
            run = Run()
            self._group.start_soon(self._run_child, run)
            await run.left.wait()
            if run.has_retired:
                continue
            if run.error is not None:
                # No memory or descriptor is free, or the program is being replaced. The others go on.
                failures += 1
                pause, at_least = self._pauses(failures, place, RESTART_PAUSES, ALONE_PAUSES)
                logger.error(  # what fails is a call of the system: its stack says nothing
                    "a worker process cannot be started (%s); trying again in %g s",
                    run.error,
                    pause if self._running else at_least,
                )
                await self._pause(pause, at_least)
                continue
            code = run.code
            if self._stopping.is_set():
                self._note_end(code)
                return
            if self._until_done and code == 0:
                return
            if generation != self._generation:
                failures = 0
                continue
            if code == RECYCLE:
                logger.warning("a worker process was blocked by a handler; starting another")
                continue
            if self._until_changed:
                logger.error("the worker process ended with %s; waiting for a change", forks.how_ended(code))
                await self._pause(math.inf, math.inf)
                continue
            if time.monotonic() - started_at >= HEALTHY_AFTER:
                failures = 0
            failures += 1
            choices = (KILLED_PAUSES, KILLED_ALONE_PAUSES) if code < 0 else (RESTART_PAUSES, ALONE_PAUSES)
            pause, at_least = self._pauses(failures, place, *choices)
            logger.error(
                "a worker process ended with %s; starting another in %g s",
                forks.how_ended(code),
                pause if self._running else at_least,
            )
            await self._pause(pause, at_least)

    def _note_end(self, code: int) -> None:
        """Note how a process ended that is not started anew."""
        if code not in (*STOPPED, RECYCLE):
            logger.error("a worker process ended with %s", forks.how_ended(code))
            self._has_failed = True

    def _pauses(
        self, failures: int, place: int, pauses: Sequence[float], alone: Sequence[float]
    ) -> tuple[float, float]:
        """Return the seconds to pause after so many *failures* in a row, and after which to start if alone.

        Processes that end together, because of the same thing, are not all away together.
        """
        pause = pauses[min(failures, len(pauses)) - 1] * place / self._processes
        at_least = min(pause, alone[min(failures, len(alone)) - 1])
        return pause, at_least

    async def _pause(self, seconds: float, at_least: float) -> None:
        """Wait before a process is started anew; no longer than *at_least* while no other one is running.

        One that is stopped meanwhile has ended by its error.
        """
        began_at, generation = time.monotonic(), self._generation
        while not self._stopping.is_set():
            left = began_at + (seconds if self._running else at_least) - time.monotonic()
            if left <= 0 or generation != self._generation:
                return
            with anyio.move_on_after(left):
                await self._changed.wait()
        self._has_failed = True

    async def _run_child(self, run: Run) -> None:
        """Run a process until it has ended, also when another has taken its place."""
        self._running += 1
        try:
            if self._attach is None:
                run.code = await self._run_command(run, self._command, ())
            else:
                async with self._attach() as (option, descriptor):
                    run.code = await self._run_command(run, (*self._command, option), (descriptor,))
        except OSError as error:
            run.error = error
        finally:
            self._running -= 1
            run.left.set()
            self._tell_changed()
        if run.has_retired and self._stopping.is_set():
            self._note_end(run.code)
        elif run.has_retired and run.code not in STOPPED:
            logger.error("a worker process that had retired ended with %s", forks.how_ended(run.code))

    async def _run_command(self, run: Run, command: Sequence[str], descriptors: Sequence[int]) -> int:
        retiring, held = os.pipe()
        try:
            # A process group of its own: Ctrl-C in a terminal signals the whole group. A child would receive
            # it twice, once from us, and take it for the second signal.
            child = await asyncio.create_subprocess_exec(
                *command,
                f"--supervisor-pipe={self._pipe}",
                f"--retire-pipe={held}",
                process_group=0,
                pass_fds=(self._pipe, held, *descriptors),
            )
        except BaseException:
            os.close(retiring)
            raise
        finally:
            os.close(held)
        logger.info("started worker process %d", child.pid)
        self._children.add(child)
        if self._stopping.is_set():
            # The signal came while the child was being started, so it was not forwarded to it.
            child.terminate()
        loop = asyncio.get_running_loop()

        def retire() -> None:
            # It has written, and goes on; or it has ended, which is not known yet.
            if os.read(retiring, 1) and not self._stopping.is_set():
                logger.info("worker process %d retires; starting another", child.pid)
                run.has_retired = True
                run.left.set()
            loop.remove_reader(retiring)

        loop.add_reader(retiring, retire)
        try:
            return await child.wait()
        finally:
            loop.remove_reader(retiring)
            os.close(retiring)
            self._children.discard(child)
