"""Makes the text of a traceback as Python does, of a bounded part of it.

Python's `traceback` captures every frame, cause and member of a group before anything can be left out, reads
the attributes of the exceptions that it meets, suggests names for those that are missing, and marks places in
source lines of any length. 3,000 causes held the event loop for minutes.
"""

from __future__ import annotations

import linecache
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

from pgqueue.model.error_groups import is_group, members

MAX_ERRORS: Final = 40
"""Errors of a chain and of its groups that are shown."""
MAX_NEAREST: Final = 15
"""Errors of one chain that are shown from its end, beside as many from its root."""
MAX_FRAMES: Final = 25
"""Frames of one error that are shown from either end."""
MAX_LINES: Final = 400
"""Source lines that are shown in all."""
MAX_WALK: Final = 20_000
"""Links of a chain, or frames, that are followed."""
MAX_MEMBERS: Final = 15
"""Errors of one group that are shown; as in Python."""
MAX_DEPTH: Final = 10
"""Groups in groups that are shown; as in Python."""
MAX_LINE: Final = 300
"""Characters of a source line, or a line of a note."""
MAX_SOURCE: Final = 2 * 1024 * 1024
"""Bytes of source files that are read for one text."""

MessageOf = Callable[[BaseException], str]

_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n"


def format_error(error: BaseException, message_of: MessageOf, trace: TracebackType | None = None) -> str:
    """Return the traceback of *error*, of its causes and of what it groups. *message_of* never raises.

    *trace*: that of *error* itself, which may have none any more.
    """
    return "\n".join(_Formatter(message_of, {id(error): trace}).lines(error, 0)) + "\n"


class _Formatter:
    """Makes one text. What it may still show shrinks with every error and every line."""

    def __init__(self, message_of: MessageOf, traces: Mapping[int, TracebackType | None]) -> None:
        self._message_of = message_of
        self._traces = traces
        self._errors = MAX_ERRORS
        self._lines = MAX_LINES
        self._source = MAX_SOURCE
        self._seen: set[int] = set()

    def lines(self, error: BaseException, depth: int) -> Iterator[str]:
        """Yield the lines of *error* and of the errors that led to it, the first of them first."""
        chain, left_out = self._chain(error)
        for place, (each, link) in enumerate(chain):
            if self._errors <= 0 and each is not error:
                continue
            self._errors -= 1
            yield from self._one(each, depth)
            if link:
                yield link
            if left_out and place == MAX_NEAREST - 1:
                yield f"[{left_out} more errors that led to the following one]\n"

    def _chain(self, error: BaseException) -> tuple[list[tuple[BaseException, str]], int]:
        """Return the errors that led to *error*, and it: each with what connects it to the next."""
        nearest: list[tuple[BaseException, str]] = []
        root: deque[tuple[BaseException, str]] = deque(maxlen=MAX_NEAREST)
        here: BaseException | None = error
        link, found = "", 0
        while here is not None and id(here) not in self._seen and found < MAX_WALK:
            self._seen.add(id(here))
            found += 1
            (nearest if len(nearest) < MAX_NEAREST else root).append((here, link))
            cause, context = cause_of(here), context_of(here)
            if cause is not None:
                here, link = cause, _CAUSE
            else:
                here, link = None if hides_context(here) else context, _CONTEXT
        return [*reversed(root), *reversed(nearest)], found - len(root) - len(nearest)

    def _one(self, error: BaseException, depth: int) -> Iterator[str]:
        grouped = is_group(error)
        trace = self._traces.get(id(error)) or trace_of(error)
        if trace is not None:
            yield (
                "  + Exception Group Traceback (most recent call last):"
                if grouped
                else ("Traceback (most recent call last):")
            )
            for line in self._frames(trace):
                yield f"  | {line}" if grouped else line
        for line in self._said(error):
            yield f"  | {line}" if grouped else line
        if grouped:
            yield from self._members(error, depth)

    def _members(self, group: BaseException, depth: int) -> Iterator[str]:
        inner = members(group)
        if depth >= MAX_DEPTH:
            yield f"  | ... ({len(inner)} errors, in more groups than are shown)"
            return
        for number, member in enumerate(inner[:MAX_MEMBERS], 1):
            if self._errors <= 0:
                break
            yield f"  +-+---------------- {number} ----------------"
            for line in self.lines(member, depth + 1):
                for each in line.split("\n"):
                    yield f"    | {each}"
        if len(inner) > MAX_MEMBERS or self._errors <= 0:
            yield f"  +---------------- ... of {len(inner)} errors"
        yield "    +------------------------------------"

    def _frames(self, trace: TracebackType) -> Iterator[str]:
        first: list[tuple[FrameType, int]] = []
        last: deque[tuple[FrameType, int]] = deque(maxlen=MAX_FRAMES)
        found, here = 0, trace
        while here is not None and found < MAX_WALK:
            found += 1
            (first if len(first) < MAX_FRAMES else last).append((here.tb_frame, here.tb_lineno))
            here = here.tb_next  # type: ignore[assignment]
        left_out = found - len(first) - len(last)
        for place, (frame, number) in enumerate((*first, *last)):
            if left_out and place == MAX_FRAMES:
                yield f"  [{left_out} more frames]"
            code = frame.f_code
            yield f'  File "{code.co_filename[:MAX_LINE]}", line {number}, in {code.co_name[:MAX_LINE]}'
            if self._lines > 0 and (line := self._source_line(frame, number)):
                self._lines -= 1
                yield f"    {line}"

    def _source_line(self, frame: FrameType, number: int) -> str:
        """Return a line of the source of *frame*; empty, if it cannot be read within bounds."""
        name = frame.f_code.co_filename
        try:
            if len(linecache.cache.get(name, ())) <= 1:
                # Not read yet.
                file = Path(name)
                self._source -= file.stat().st_size if file.is_file() else 0
                if self._source < 0:
                    return ""
            line = linecache.getline(name, number, frame.f_globals)
        except Exception:
            # A loader may raise anything.
            return ""
        return line[: 2 * MAX_LINE].strip()[:MAX_LINE]

    def _said(self, error: BaseException) -> Iterator[str]:
        kind = type(error)
        name: str = type.__dict__["__qualname__"].__get__(kind)
        module = kind.__dict__.get("__module__")
        if type(module) is str and module not in ("builtins", "__main__"):
            name = f"{module}.{name}"
        message = self._message_of(error)
        yield f"{name[:MAX_LINE]}: {message}" if message else name[:MAX_LINE]
        notes = BaseException.__getattribute__(error, "__dict__").get("__notes__")
        if type(notes) is list:
            for note in notes[:MAX_FRAMES]:
                yield str.__getitem__(note, slice(0, MAX_LINE)) if issubclass(type(note), str) else "<a note>"


# By the descriptors of BaseException itself: a class can override the attributes.


def cause_of(error: BaseException) -> BaseException | None:
    """Return what *error* was raised from."""
    found: BaseException | None = BaseException.__cause__.__get__(error)  # type: ignore[union-attr]
    return found


def context_of(error: BaseException) -> BaseException | None:
    """Return the error that was being handled when *error* was raised."""
    found: BaseException | None = BaseException.__context__.__get__(error)  # type: ignore[union-attr]
    return found


def hides_context(error: BaseException) -> bool:
    """Whether the error that was being handled is not to be shown."""
    return bool(BaseException.__suppress_context__.__get__(error))  # type: ignore[attr-defined]


def trace_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of *error*."""
    found: TracebackType | None = BaseException.__traceback__.__get__(error)  # type: ignore[union-attr]
    return found
