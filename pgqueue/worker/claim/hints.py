"""What a worker makes of announced lanes: those that it knows, and those of other workers' queues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

SWEEP_GAP: Final = 0.05
"""Minimum seconds between two sweeps, before a worker believes that its lanes are empty."""
MAX_FOREIGN: Final = 1000
"""Lanes of other workers' queues that are remembered, so that their jobs are not looked for."""


class UnknownLanes:
    """The announced lanes that one worker does not know. *look* has it sweep at once, which finds its own."""

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._foreign: set[int] = set()
        self._soon: asyncio.TimerHandle | None = None
        self._is_wanted_soon = False

    def __len__(self) -> int:
        return len(self._foreign)

    def hint(self, lane_id: int) -> None:
        """Look for a lane that is announced: once, unless there are more than a process remembers.

        It is new, or of a queue that the worker does not serve: the sweep tells. Any role may announce
        numbers.
        """
        if lane_id not in self._foreign:
            if len(self._foreign) >= MAX_FOREIGN:
                self._foreign.clear()
            self._foreign.add(lane_id)
            self._look_soon()

    def forget(self, lane_ids: Iterable[int]) -> None:
        """Forget lanes that are known now: when they are removed and come back, they are looked for again."""
        self._foreign.difference_update(lane_ids)

    def _look_soon(self) -> None:
        """Sweep at once, or a moment after the last sweep for a lane that was unknown."""
        if self._soon is None:
            loop = asyncio.get_running_loop()
            self._look()
            self._soon = loop.call_later(SWEEP_GAP, self._allow_soon)
        else:
            self._is_wanted_soon = True

    def _allow_soon(self) -> None:
        self._soon = None
        if self._is_wanted_soon:
            self._is_wanted_soon = False
            self._look_soon()
