"""Compares the order in which a handler comes to its steps with that in which earlier attempts came to them.

A handler that runs again is to come to what is stored in the same order. If it does not, its code has changed
while the job was under way, and what it does next would rest on steps that it skipped. So each step is stored
with its place. It gets none where the order may differ from attempt to attempt without any change: in another
asyncio task than the handler's, and behind what no attempt remembers, such as a step that failed.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping
from typing import NoReturn
from uuid import UUID

from pgqueue.errors import StepOrderError
from pgqueue.own_tasks import current_attempt
from pgqueue.store import Place, StoredStep


class StepOrder:
    """The order of the steps of one attempt. *arguments*: the job's: another call may take another way."""

    def __init__(self, job_id: UUID, arguments: str) -> None:
        self._job_id = job_id
        self._call = zlib.crc32(arguments.encode()) - 2**31
        self._expected: list[tuple[int, str, str]] = []
        self._next = 1
        self._passed: set[str] = set()
        self._is_certain = True
        self._broken: StepOrderError | None = None

    def expect(self, stored: Mapping[str, StoredStep]) -> None:
        """Take what earlier attempts have *stored*."""
        first: dict[int, tuple[str, str]] = {}
        for name, step in stored.items():
            number, kind, call = step.place
            if number is not None and kind is not None and call == self._call:
                # A wait that goes on has stored its time alone.
                own = name.removesuffix("/until") if kind in ("sleep", "event") else name
                if number not in first or len(own) < len(first[number][0]):
                    first[number] = own, kind
        self._expected = sorted((number, *each) for number, each in first.items())[::-1]
        self._next = max(first, default=0) + 1

    def come_to(self, name: str, kind: str, stored: StoredStep | None) -> Place:
        """Return the place of a step that the handler comes to now. Raises StepOrderError."""
        if self._broken is not None:
            # Its handler took it for an error of that step, and goes on.
            raise self._broken
        if stored is not None and stored.place.kind not in (None, kind):
            self._break(f"{name!r} was {_a(stored.place.kind)} in an earlier attempt and is {_a(kind)} now")
        attempt = current_attempt.get()
        if attempt is None or not attempt.is_in_handler:
            self._passed.add(name)
            return Place(None, kind, self._call)
        while self._expected and self._expected[-1][1] in self._passed:
            self._expected.pop()
        self._passed.add(name)
        if sys.exception() is not None or attempt.is_stopped or attempt.is_soft_sent:
            # What it handles may not happen the next time.
            self._is_certain = False
        if self._expected:
            number, due, kind_due = self._expected[-1]
            if due == name:
                self._expected.pop()
                return Place(number, kind, self._call)
            place = None if stored is None else stored.place
            if self._is_certain and (
                place is None or (place.number is not None and place.call == self._call)
            ):
                self._break(f"{kind} {name!r} comes now, where an earlier attempt came to {kind_due} {due!r}")
            return Place(None, kind, self._call)
        if stored is not None or not self._is_certain:
            return Place(None, kind, self._call)
        self._next += 1
        return Place(self._next - 1, kind, self._call)

    def has_failed(self) -> None:
        """Give no places from here on: a step failed, and may succeed in the next attempt."""
        self._is_certain = False

    def _break(self, problem: str) -> NoReturn:
        self._broken = StepOrderError(
            f"job {self._job_id}: {problem}; the order of its steps and waits must stay the same for jobs "
            "that have begun: pin the changed handler to another version, or run the job from an earlier step"
        )
        raise self._broken


def _a(kind: str | None) -> str:
    return {
        "sleep": "a sleep",
        "event": "a wait for an event",
        "workflow": "a workflow of its own",
        "addition": "an addition to its group",
    }.get(kind or "", "a step")
