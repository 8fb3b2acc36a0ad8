"""Finds what has ended and was not attended to: notes whose worker died, and ends that nobody noted.

An end is noted in the statement that ends a job. Who ended it attends to the note; if that fails, or the
database did it (a cancel by SQL, an expiry), any worker finds the note here within a second. Workers of
earlier versions write no notes, and rows can be deleted by hand: what waits is swept for that, a stretch each
second.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Final, Protocol
from uuid import UUID

from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

LIMIT: Final = 5000
"""Notes that are handed over at once: to find them, several times as many are read and sorted."""
STRETCH: Final = 500
"""Waiting nodes that one statement of the sweep looks at."""
REST: Final = 60.0
"""Seconds between two sweeps, and since an end before it counts as missed."""
SHARE: Final = 10
"""A sweep rests this many times as long as its statement took, so that it takes a tenth of its time."""
_START: Final = UUID(int=0)


class Attends(Protocol):
    """Attends to notes."""

    @property
    def is_idle(self) -> bool:
        """Whether all notes that were handed over were attended to."""

    @property
    def skipped(self) -> Collection[int]:
        """The notes that are not to be tried now."""

    def add_found(self, notes: Iterable[int]) -> None:
        """Attend to *notes*."""

    def add_later(self, notes: Iterable[tuple[int, float]]) -> None:
        """Attend to each of *notes* in so many seconds."""


class Attending(Chore):
    """Hands over notes that nobody has attended to."""

    name = "finding what was not attended to"

    def __init__(self, tools: Tools, attender: Attends) -> None:
        super().__init__()
        self._tools = tools
        self._attender = attender
        self._heard = 0

    @property
    def is_called_for(self) -> bool:
        """Whether notes were announced that nobody attends to by himself."""
        return self._heard != self._tools.state.notes.count

    async def run(self) -> float:
        """Hand over the notes that there are, unless those of before are still being attended to."""
        tools, attender = self._tools, self._attender
        self._heard = tools.state.notes.count
        if not attender.is_idle:
            # Soon again, without a look: a queue that goes on leaves a note for each key that waits in it.
            return TICK / 10
        async with tools.link.use() as connection:
            notes = await tools.store.find_notes(connection, LIMIT, attender.skipped, TICK)
        attender.add_found(note for note, due in notes if due <= 0)
        attender.add_later((note, due) for note, due in notes if due > 0)
        return TICK if len(notes) < LIMIT else TICK / 10


class Sweeping(Chore):
    """Notes ends that nobody has noted."""

    name = "sweeping workflows"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._reached = _START

    async def run(self) -> float:
        """Sweep the next stretch of what waits."""
        tools = self._tools
        began_at = time.monotonic()
        async with tools.link.use() as connection:
            swept = await tools.store.sweep_edges(connection, self._reached, STRETCH, REST)
        if swept.looked < STRETCH or swept.reached is None:
            self._reached = _START
            return REST
        self._reached = swept.reached
        return max(TICK, SHARE * (time.monotonic() - began_at))


class SweepingGates(Chore):
    """Notes gates that jobs wait behind, gives back what none holds, and removes idle ones."""

    name = "sweeping gates"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._reached = _START

    async def run(self) -> float:
        """Sweep the next stretch of gates."""
        tools = self._tools
        began_at = time.monotonic()
        async with tools.link.use() as connection:
            reached = await tools.store.sweep_gates(connection, self._reached, STRETCH)
        self._reached = reached or _START
        return REST if reached is None else max(TICK, SHARE * (time.monotonic() - began_at))


class SweepingLimiters(Chore):
    """Removes what attempts that are over hold of limiters, or wait for, and idle limiters."""

    name = "sweeping limiters"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._reached = _START

    async def run(self) -> float:
        """Sweep the next stretch of limiters."""
        tools = self._tools
        began_at = time.monotonic()
        async with tools.link.use() as connection:
            reached = await tools.store.sweep_limiters(connection, self._reached, STRETCH)
        self._reached = reached or _START
        return REST if reached is None else max(TICK, SHARE * (time.monotonic() - began_at))
