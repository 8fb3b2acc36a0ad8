"""Runs a command's event loop, and exits even if handlers are still running.

An abandoned handler may block a thread or ignore its cancellation for ever. Its job has been returned to the
queue by then, so the process does not wait for it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import typer

from pgqueue.errors import ConfigurationError
from pgqueue.own_tasks import OwnTask, on_behalf_of
from pgqueue.package import pip_install

T = TypeVar("T")

logger = logging.getLogger("pgqueue.cli")

PATIENCE = 1.0
"""Seconds that remaining asyncio tasks and threads have to end by themselves."""
COLLECT_AFTER = 20_000
"""New objects before the next collection of the youngest generation: some megabytes."""


class _AbandoningExecutor(ThreadPoolExecutor):
    """Does not wait for its threads when the loop closes."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        super().shutdown(wait=False, cancel_futures=True)


def run(main: Callable[[], Coroutine[Any, Any, T]], *, uvloop: bool | None = None) -> T:
    """Run *main* in a new event loop. *uvloop*: None uses it if it is installed.

    Raises ConfigurationError if it is wanted and not installed.
    """
    with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
        return runner.run(_with_executor(main))


def run_with_handlers(main: Callable[[], Coroutine[Any, Any, T]], *, uvloop: bool | None = None) -> T:
    """Run *main* as `run` does, whatever is done to its loop by the handlers that share it."""
    with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
        loop = runner.get_loop()
        running = OwnTask(_with_executor(main), loop=loop)
        while True:
            try:
                value: T = loop.run_until_complete(running)
            except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
                if running.done() or loop.is_closed() or not _is_of_a_handler(error):
                    raise
                # Raised in an asyncio task or a callback, these leave the loop, which can go on.
                logger.error(
                    "%s stopped the event loop: code in a handler raised it, or called loop.stop(); going on",
                    type(error).__name__,
                    exc_info=error,
                )
            else:
                return value


async def _with_executor(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    asyncio.get_running_loop().set_default_executor(_AbandoningExecutor())
    return await main()


def _is_of_a_handler(error: BaseException) -> bool:
    # While this is the handler of the signal, Ctrl-C raises a KeyboardInterrupt of its own. No worker has it.
    is_of_the_user = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return not (isinstance(error, KeyboardInterrupt) and is_of_the_user)


def tune_collector() -> None:
    """Make the garbage collector ignore all present objects, and run less often.

    A job's objects are freed by reference counts when it ends, so the collector searches in vain: with fewer
    runs a worker took 0.94 of the processor time (0.77 to 1.05, 7 alternating pairs of drains). If the
    program has set a higher threshold, or disabled the collector, its setting is kept.
    """
    threshold, *older = gc.get_threshold()
    if gc.isenabled() and 0 < threshold < COLLECT_AFTER:
        gc.set_threshold(COLLECT_AFTER, *older)
    gc.freeze()


def _loop_factory(uvloop: bool | None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if uvloop is False:
        return None
    try:
        from uvloop import new_event_loop
    except ImportError as error:
        if uvloop:
            raise ConfigurationError(f"uvloop is not installed; run {pip_install('uvloop')}") from error
        return None
    return new_event_loop


async def leave_if_stuck(code: int) -> None:
    """Cancel all other asyncio tasks, and exit if some ignore it: the loop would wait for them."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    # Not as this one: a handler that was abandoned may await it, and would pass its cancellation on.
    with on_behalf_of("the end of the process"):
        for task in others:
            task.cancel()
    if others and (await asyncio.wait(others, timeout=PATIENCE))[1]:
        exit_now(code)


def leave(code: int) -> NoReturn:
    """Exit with *code*, without waiting for threads that do not end within PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                exit_now(code)
    raise typer.Exit(code)


def restart() -> NoReturn:
    """Replace this process with a new one of the same command. Callable from any thread."""
    _flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # our own command line


def exit_now(code: int) -> NoReturn:
    """Flush the log and the output, then exit at once. Callable from any thread."""
    _flush()
    os._exit(code)


def _flush() -> None:
    """Write out the log and the output, within PATIENCE: nobody may read them, and the disk may be full."""

    def flush() -> None:
        for each in (logging.shutdown, sys.stdout.flush, sys.stderr.flush):
            with suppress(Exception):
                each()

    flushing = threading.Thread(target=flush, daemon=True)
    flushing.start()
    flushing.join(PATIENCE)
