"""Ends a child that a handler forked, where it comes back from the handler.

Such a child is a copy of the worker. If it went on, it would finish the job a second time, and run other
jobs' handlers too. It ends where the handler that forked it ends, or, in a coroutine, at its next `await`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from contextlib import suppress
from typing import NoReturn
from weakref import WeakSet

from pgqueue import forks
from pgqueue.tasks.context import running_attempt
from pgqueue.worker.attempt.attempt import RunningAttempt, Stop

_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
is_child = False
"""Whether a fork made this process. A job in a thread pays for no other question."""


class ForkedAttempt(RunningAttempt):
    """An attempt as a forked child has it: the child ends when this is asked how the attempt was stopped.

    An attempt becomes this in the child, so no other attempt pays for the question.
    """

    __slots__ = ()

    @property
    def is_stopped(self) -> bool:
        """Whether its handler is to stop: the child is told by signals alone."""
        return False

    @property
    def stop_reason(self) -> Stop | None:
        """Nothing: this ends the process."""
        leave(sys.exception())

    @stop_reason.setter
    def stop_reason(self, reason: Stop | None) -> None:
        raise AssertionError(reason)


def prepare(loop: asyncio.AbstractEventLoop) -> None:
    """Have the children that handlers on *loop*, or in threads, fork from this process end with them."""
    _loops.add(loop)
    forks.prepare()
    forks.call_in_children(_forked)


def leave_if_forked(error: BaseException | None) -> None:
    """End this process if a handler forked it and has ended in it, by *error* or without."""
    if isinstance(running_attempt.get(), ForkedAttempt):
        leave(error)


def leave(error: BaseException | None) -> NoReturn:
    """End this process as Python ends a program, without what its parent would do at its end."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            # It may be closed, or replaced by the user.
            stream.flush()
    os._exit(code & 0xFF)


def _forked() -> None:
    global is_child  # noqa: PLW0603  # a fork happens to the process
    is_child = True
    attempt = running_attempt.get()
    if isinstance(attempt, RunningAttempt):
        attempt.__class__ = ForkedAttempt
    for loop in _loops:
        # Closed, or in debug mode, which checks the thread: then it does not run here.
        with suppress(RuntimeError):
            loop.call_soon(leave, None)
