"""Runs a command's event loop, and leaves the process whatever handlers have left behind.

A handler that was given up on may sit in a thread or refuse its cancellation for ever. Its job has been
given back by then, and the process must not stay for its sake.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

import typer

from pgqueue.errors import ConfigurationError

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds for what is left to end by itself."""
COLLECT_AFTER = 20_000
"""Objects more than there were at the last collection: some megabytes."""


class _AbandoningExecutor(ThreadPoolExecutor):
    """Does not wait for its threads when the loop closes."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        super().shutdown(wait=False, cancel_futures=True)


def run(main: Callable[[], Coroutine[Any, Any, T]], *, uvloop: bool | None = None) -> T:
    """Run *main* in a new event loop. *uvloop*: None uses it if it is installed."""

    async def with_executor() -> T:
        asyncio.get_running_loop().set_default_executor(_AbandoningExecutor())
        return await main()

    with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
        return runner.run(with_executor())


def settle_collector() -> None:
    """Have the garbage collector pass over what is there by now, and come less often.

    What a job makes is free again once it has ended, without a collector, which then looks in vain: without
    it 0.94 of the worker's processor time (0.77 to 1.05, 7 pairs of drains in turn). A program that has set
    more, or none, is left alone.
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
            raise ConfigurationError(
                "uvloop is not installed; run `pip install 'pgqueue[uvloop]'`"
            ) from error
        return None
    return new_event_loop


async def leave_if_stuck(code: int) -> None:
    """Exit here if asyncio tasks do not let themselves be cancelled: the loop would wait for them."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others and (await asyncio.wait(others, timeout=PATIENCE))[1]:
        exit_now(code)


def leave(code: int) -> NoReturn:
    """Exit, without waiting for threads that do not end."""
    deadline = time.monotonic() + PATIENCE
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                exit_now(code)
    raise typer.Exit(code)


def restart() -> NoReturn:
    """Become a new process of the same command: this one cannot be helped. From any thread."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # our own command line


def exit_now(code: int) -> NoReturn:
    """Exit as the process stands. From any thread."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
