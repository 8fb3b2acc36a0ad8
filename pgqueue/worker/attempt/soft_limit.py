"""Raises SoftTimeLimitExceeded in handlers, at an await in coroutines and between two steps in threads.

`deadlines` says when. A coroutine is told by a cancellation, which a small generator between it and its
asyncio task turns into the exception; a handler that ends without suspending never meets that generator. The
exception is a CancelledError and not a plain BaseException, because asyncio's groups orphan their children on
the latter if it comes in their `__aexit__`.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, Final

from pgqueue.errors import SoftTimeLimitExceeded
from pgqueue.worker.attempt import forked
from pgqueue.worker.attempt.attempt import RunningAttempt


@types.coroutine
def resume(
    coroutine: Coroutine[Any, Any, Any], waiting_for: Any, attempt: RunningAttempt
) -> Generator[Any, Any, Any]:
    """Drive *coroutine*, which waits for *waiting_for*, to its end; return its value.

    As `await` would, except that a cancellation for the soft limit reaches the coroutine as
    SoftTimeLimitExceeded, and no longer counts as a cancellation of the asyncio task. What the worker has
    said decides, and not how often the task was cancelled: the handler itself may have cancelled it.
    """
    try:
        while True:
            error: BaseException | None = None
            received: Any = None
            try:
                received = yield waiting_for
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:
                error = thrown
            # Not inside the `except`: the handler's own errors keep their own context.
            waiting_for = (
                coroutine.send(received) if error is None else coroutine.throw(_as_meant(error, attempt))
            )
    except StopIteration as end:
        return end.value


def _as_meant(error: BaseException, attempt: RunningAttempt) -> BaseException:
    """Return what the handler gets for *error*."""
    if not attempt.is_soft_due or not isinstance(error, asyncio.CancelledError):
        return error
    assert attempt.runner is not None
    attempt.is_soft_due = False
    attempt.runner.uncancel()
    # Cancelled twice, for the soft limit and to stop: the latter remains.
    return error if attempt.is_stopped else soft_limit_exceeded(attempt)


class GroupsTaught:
    """Has the exception leave the body of an asyncio.TaskGroup as it came, as it does from Python 3.13 on.

    Before, a group takes only CancelledError itself for a cancellation, and wraps what is derived from it: a
    handler that waits for its soft limit around the group would miss it. The class is changed while some
    worker of this process runs, and is as it was before and after.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: Any = None

    def __enter__(self) -> None:
        if sys.version_info < (3, 13):
            with self._lock:
                self._users += 1
                if self._users == 1:
                    self._before = asyncio.TaskGroup.__aexit__
                    self._set(_leaving_as_cancelled(self._before))

    def __exit__(self, *_: object) -> None:
        if sys.version_info < (3, 13):
            with self._lock:
                self._users -= 1
                # Unless somebody has changed it since: what they put there calls ours.
                is_ours = getattr(asyncio.TaskGroup.__aexit__, "__wrapped__", None) is self._before
                if self._users == 0 and is_ours:
                    self._set(self._before)

    @staticmethod
    def _set(leave: Any) -> None:
        asyncio.TaskGroup.__aexit__ = leave  # type: ignore[method-assign]


groups_taught: Final = GroupsTaught()


def _leaving_as_cancelled(leave: Callable[..., Any]) -> Any:
    @functools.wraps(leave)
    async def leave_as_cancelled(
        group: asyncio.TaskGroup, kind: type[BaseException] | None, error: BaseException | None, trace: Any
    ) -> None:
        await leave(group, asyncio.CancelledError if kind is SoftTimeLimitExceeded else kind, error, trace)

    return leave_as_cancelled


def soft_limit_exceeded(attempt: RunningAttempt) -> SoftTimeLimitExceeded:
    """Return what is raised in the handler of *attempt*."""
    assert attempt.policy is not None
    return SoftTimeLimitExceeded(
        f"job {attempt.claimed.id} ({attempt.claimed.task}) exceeded its soft time limit of "
        f"{attempt.policy.soft_timeout:g} s"
    )


def call(
    handler: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, BaseException | None]:
    """Call *handler*; return its value, or what it raised.

    As a value: StopIteration cannot be raised into a future, and a SystemExit would end the thread's loop.
    """
    try:
        outcome: tuple[Any, BaseException | None] = (handler(*args, **kwargs), None)
    except BaseException as error:
        outcome = (None, error)
    if forked.is_child:
        forked.leave_if_forked(outcome[1])
    return outcome


class PlainCall:
    """A call of a handler, in the thread that makes it; says whether it runs, should nobody wait for it."""

    def __init__(self, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._call = (handler, args, kwargs)
        self.is_running = False

    def __call__(self) -> tuple[Any, BaseException | None]:
        """Make the call; return its value, or what it raised."""
        self.is_running = True
        outcome = call(*self._call)
        self.is_running = False
        return outcome


class ThreadCall(PlainCall):
    """A call of a handler, in the thread that makes it, that another thread can interrupt.

    Only the handler is hit: `interrupt` before its start takes effect when it starts, and after its end it
    does nothing. A thread inside a C function, such as a blocking call, is hit when that returns.
    """

    def __init__(self, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__(handler, args, kwargs)
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._is_interrupted = False

    def __call__(self) -> tuple[Any, BaseException | None]:
        """Make the call; return its value, or what it raised."""
        outcome: tuple[Any, BaseException | None] | None = None
        try:
            with self._lock:
                self._thread, self.is_running = threading.get_ident(), True
                if self._is_interrupted:
                    _raise_in(self._thread, SoftTimeLimitExceeded)
            outcome = call(*self._call)
            self._close()
        except SoftTimeLimitExceeded as error:
            # It was too early or too late to hit the handler. It is raised only once, so nothing more comes.
            self._close()
            return outcome or (None, error)
        return outcome

    def interrupt(self) -> None:
        """Raise SoftTimeLimitExceeded in the handler. Once; from any thread."""
        with self._lock:
            if self._is_interrupted:
                return
            self._is_interrupted = True
            if self._thread is not None:
                _raise_in(self._thread, SoftTimeLimitExceeded)

    def _close(self) -> None:
        """From here on, raise nothing in this thread, which is used again."""
        with self._lock:
            try:  # noqa: SIM105  # `suppress` begins functions of its own, and they would be hit
                # What was to be raised, and has not been, is raised here. Withdrawn by NULL, it left the
                # interpreter looking for it for ever: under a debugger, Python 3.11 hung in the next call.
                _step()
            except SoftTimeLimitExceeded:
                pass
            self._thread, self._is_interrupted = None, True
        self.is_running = False


def _step() -> None:
    """Be called: what is to be raised in a thread is raised where a function begins."""


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Have *error* raised in *thread* before its next step of Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))
