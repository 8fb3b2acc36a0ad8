"""What an attempt raised, for log records and error trackers: an exception, with the places it came through.

Where there is no exception any more (it was raised in a child process, or the attempt was ended for it) or it
may not be shown as it is (its text may quote arguments), one takes its place that has the same type by name,
so that whoever groups errors by type and place groups them as before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import dropwhile, takewhile
from pathlib import Path
from types import CodeType, FunctionType, TracebackType
from typing import Any, Final, NamedTuple

from pgqueue.model.error_groups import is_group, members
from pgqueue.model.job_error import MAX_TRACEBACK, JobError, name_of
from pgqueue.model.tracebacks import (
    MAX_DEPTH,
    MAX_ERRORS,
    MAX_FRAMES,
    cause_of,
    context_of,
    hides_context,
    trace_of,
)

_BEGINS: Final = "Traceback (most recent call last):"
_PLACE: Final = re.compile(r'  File "([^"\n]{1,4096})", line (\d{1,9}), in (\S{1,300})')

OWN_CODE: Final = str(Path(__file__).parents[1])
"""The folder of pgqueue's code: what an error came through there first says nothing about it."""

MessageOf = Callable[[BaseException], str]
Place = tuple[str, int, str]
"""A file, a line, and a function."""


class Raised(NamedTuple):
    """An exception as `sys.exc_info()` has it. The traceback is apart: the exception itself has none."""

    type: type[BaseException]
    error: BaseException
    traceback: TracebackType | None


def stand_in(error: JobError, *, has_messages: bool = True) -> Raised:
    """Return an exception that looks like *error*, with the places that its traceback names.

    Without messages nothing that follows a message is read: any line of it may be one of the message's.
    """
    made = _made(error.type, error.message)
    read = _last_places if has_messages else _first_places
    places = dropwhile(_is_own, read(error.traceback or ""))
    return Raised(type(made), made, _trace([*places][: 2 * MAX_FRAMES]))


def without_messages(raised: Raised, message: str, message_of: MessageOf) -> Raised:
    """Return *raised* as exceptions that say *message*, and *message_of* each error that led to it."""
    copied = _copy(raised.error, message, message_of, [MAX_ERRORS], 0).with_traceback(raised.traceback)
    return Raised(type(copied), copied, raised.traceback)


def _copy(
    error: BaseException, message: str, message_of: MessageOf, left: list[int], depth: int
) -> BaseException:
    """Return an error that looks like *error*; at most *left* of them in all."""
    left[0] -= 1
    kind = type(error)
    module = kind.__dict__.get("__module__")
    grouped = [
        _copy(each, message_of(each), message_of, left, depth + 1).with_traceback(trace_of(each))
        for each in (members(error) if is_group(error) and depth < MAX_DEPTH else ())
        if left[0] > 0
    ]
    made = _made(name_of(kind), message, module if type(module) is str else "", grouped)
    cause, context = cause_of(error), context_of(error)
    if cause is not None and left[0] > 0:
        made.__cause__ = _copy(cause, message_of(cause), message_of, left, depth).with_traceback(
            trace_of(cause)
        )
    elif context is not None and not hides_context(error) and left[0] > 0:
        made.__context__ = _copy(context, message_of(context), message_of, left, depth).with_traceback(
            trace_of(context)
        )
    return made


def _made(
    name: str, message: str, module: str = "", grouped: list[BaseException] | None = None
) -> BaseException:
    base: Any = BaseExceptionGroup if grouped else Exception
    short = name.rpartition(".")[2] or "Error"
    # Of no module that is known: shown as built-in ones are.
    kind = type(short, (base,), {"__module__": module or "builtins", "__qualname__": name or short})
    made: BaseException = kind(message, grouped) if grouped else kind(message)
    return made


def _last_places(traceback: str) -> list[Place]:
    """Return the places of the last error in the text of a traceback."""
    return _first_places(_BEGINS + traceback.rpartition(_BEGINS)[2])


def _first_places(traceback: str) -> list[Place]:
    """Return the places of the first error in the text of a traceback, if it begins with them."""
    begins, *lines = traceback.split("\n")
    if begins != _BEGINS or len(traceback) >= MAX_TRACEBACK:
        return []
    places = map(_PLACE.fullmatch, takewhile(_is_indented, lines))
    return [(place[1], int(place[2]), place[3]) for place in places if place]


def _is_indented(line: str) -> bool:
    return line.startswith("  ")


def _is_own(place: Place) -> bool:
    return place[0].startswith(OWN_CODE)


def _here() -> Any:
    yield


_CODE: Final[CodeType] = _here.__code__


def _trace(places: Sequence[Place]) -> TracebackType | None:
    trace: TracebackType | None = None
    for file, line, name in reversed(places):
        code = _CODE.replace(co_filename=file, co_firstlineno=line, co_name=name, co_qualname=name)
        # Of a generator that never runs: a frame that ran refers to all that called it.
        frame = FunctionType(code, {"__name__": name}).__call__().gi_frame
        trace = TracebackType(trace, frame, 0, line)
    return trace
