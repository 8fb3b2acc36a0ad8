"""Lets go of what a failed attempt had in its local variables, without waiting for Python's collector.

An error refers to its traceback, that to the frames it came through, and those often to the error: a circle,
which keeps every local variable of the handler until the collector runs. A worker has it run seldom.

This comes last: what reads variables in frames (a debugger, `retry_when`) was called before. Where the error
came through, files, functions and lines, is kept for the record of the attempt.
"""

from __future__ import annotations

import dis
import inspect
import sys
from types import FrameType, TracebackType
from typing import Any, Final

from pgqueue.model.raised import OWN_CODE, Raised
from pgqueue.retry.control import Retry

MAX_ERRORS: Final = 2_000
"""Errors of one attempt that are looked at: the error itself, its causes, contexts and groups."""
MAX_FRAMES: Final = 20_000
"""Frames of theirs that are cleared. What is beyond either limit is left to the collector."""

# Slots of the base classes: the error's own class may define anything under these names.
_traceback: Final[Any] = BaseException.__dict__["__traceback__"]
_cause: Final[Any] = BaseException.__dict__["__cause__"]
_context: Final[Any] = BaseException.__dict__["__context__"]
_attributes: Final[Any] = BaseException.__dict__["__dict__"]
_members: Final[Any] = BaseExceptionGroup.__dict__["exceptions"]

_SUSPENDABLE: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_YIELD: Final = dis.opmap["YIELD_VALUE"]


def let_go(error: BaseException) -> Raised:
    """Clear the frames of *error*; return it with the part of its traceback that is the handler's.

    The error itself has no traceback any more: it may be one that others raise again.
    """
    if issubclass(type(error), Retry) and (said := _attributes.__get__(error).get("exc")) is not None:
        clear_frames(error)
        error = said
    trace: TracebackType | None = _traceback.__get__(error)
    for _ in range(MAX_FRAMES):
        if trace is None or not trace.tb_frame.f_code.co_filename.startswith(OWN_CODE):
            break
        trace = trace.tb_next
    # By the slot: the trace of an error without a class of its own is cut off here as well.
    clear_frames(error)
    return Raised(type(error), error, trace if _are_clear(trace) else None)


def _are_clear(trace: TracebackType | None) -> bool:
    frames = 0
    while trace is not None:
        frames += 1
        if frames > MAX_FRAMES or not _clear(trace.tb_frame):
            return False
        trace = trace.tb_next
    return True


def clear_frames(error: BaseException) -> None:
    """Clear the frames that *error*, and what led to it, came through.

    Frames that still run, this worker's own and those of others that share an error, are left alone. An
    error that came through one loses its traceback instead: each frame keeps those that called it.
    """
    seen: set[int] = set()
    errors: list[BaseException] = [error]
    frames = 0
    while errors and len(seen) < MAX_ERRORS:
        error = errors.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        is_cleared, trace = True, _traceback.__get__(error)
        while trace is not None and frames < MAX_FRAMES:
            frames += 1
            is_cleared &= _clear(trace.tb_frame)
            trace = trace.tb_next
        if not is_cleared:
            _traceback.__set__(error, None)
        led_to_it = (
            _cause.__get__(error),
            _context.__get__(error),
            # Not isinstance: that asks the error, which may raise anything.
            _attributes.__get__(error).get("exc") if issubclass(type(error), Retry) else None,
        )
        errors += [each for each in led_to_it if each is not None]
        if issubclass(type(error), BaseExceptionGroup):
            errors += _members.__get__(error)[:MAX_ERRORS]


def _clear(frame: FrameType) -> bool:
    """Clear a frame that has ended; return whether it had."""
    code = frame.f_code
    if (
        sys.version_info < (3, 13)
        and code.co_flags & _SUSPENDABLE
        and code.co_code[frame.f_lasti] == _YIELD  # where it would be suspended
    ):
        # Up to 3.12, clearing the frame of a generator or coroutine that is suspended closes it. One that
        # caught this error and goes on, as the reader of a shared connection does, must not be closed.
        return False
    try:
        frame.clear()
    except RuntimeError:
        return False
    return True
