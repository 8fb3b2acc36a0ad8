"""Raises SoftTimeLimitExceeded in handlers: in coroutines at their await, in threads between two steps.

Knows no clock: `deadlines` says when.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any

from pgqueue.errors import SoftTimeLimitExceeded
from pgqueue.worker.attempt.attempt import RunningAttempt


@types.coroutine
def resume(
    coroutine: Coroutine[Any, Any, Any], waiting_for: Any, attempt: RunningAttempt
) -> Generator[Any, Any, Any]:
    """Drive *coroutine*, which waits for *waiting_for*, to its end; return its value.

    As `await` would, but that a cancellation sent for the soft limit reaches it as SoftTimeLimitExceeded, and
    is no cancellation of the asyncio task any more.
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
            # Not inside the `except`: what the handler raises has a context of its own.
            waiting_for = (
                coroutine.send(received) if error is None else coroutine.throw(_as_meant(error, attempt))
            )
    except StopIteration as end:
        return end.value


def _as_meant(error: BaseException, attempt: RunningAttempt) -> BaseException:
    """Return what a handler is to see of *error*."""
    if not attempt.is_soft_due or not isinstance(error, asyncio.CancelledError):
        return error
    assert attempt.runner is not None
    attempt.is_soft_due = False
    # Cancelled twice, for the soft limit and for good: the latter is what is left.
    is_cancelled_for_good = attempt.runner.uncancel() > 0
    return error if is_cancelled_for_good else soft_limit_exceeded(attempt)


def soft_limit_exceeded(attempt: RunningAttempt) -> SoftTimeLimitExceeded:
    """Return what is raised in the handler of *attempt*."""
    assert attempt.policy is not None
    return SoftTimeLimitExceeded(
        f"job {attempt.claimed.id} ({attempt.claimed.task}) overran its soft limit of "
        f"{attempt.policy.soft_timeout:g} s"
    )


def call(
    handler: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, BaseException | None]:
    """Call *handler*; return its value, or what it raised.

    As a value: StopIteration cannot be raised into a future, and a SystemExit would end the thread's loop.
    """
    try:
        return handler(*args, **kwargs), None
    except BaseException as error:
        return None, error


class ThreadCall:
    """A call of a handler, in the thread that makes it, that another thread can interrupt.

    Only the handler is hit: before it starts, `interrupt` waits for it; after it has ended, it does nothing.
    A thread inside a call of C, a blocking one say, is hit when that returns.
    """

    def __init__(self, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._call = (handler, args, kwargs)
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._is_interrupted = False

    def __call__(self) -> tuple[Any, BaseException | None]:
        """Make the call; return its value, or what it raised."""
        outcome: tuple[Any, BaseException | None] | None = None
        try:
            with self._lock:
                self._thread = threading.get_ident()
                if self._is_interrupted:
                    _raise_in(self._thread, SoftTimeLimitExceeded)
            outcome = call(*self._call)
            self._close()
        except SoftTimeLimitExceeded as error:
            # Too early or too late to hit the handler: it is raised once, so nothing more comes.
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
        """From here on nothing is raised in this thread, which is used again."""
        with self._lock:
            if self._thread is not None:
                _raise_in(self._thread, None)
            self._thread, self._is_interrupted = None, True


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Have *error* raised in *thread* before its next step of Python; None: nothing after all."""
    target = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), target)
