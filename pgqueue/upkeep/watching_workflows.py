"""Notes which workflows have ended, and which stand still, for the metrics and for lists.

Ending a job says nothing to its workflow: that would cost each of them something. So one worker at a time
walks through the open workflows, which an index finds, a few in each step.
"""

from __future__ import annotations

import time
from typing import Final
from uuid import UUID

from pgqueue.model.ids import new_id
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

CHORE: Final = "watch workflows"
CHORE_TTL: Final = 60.0
"""Seconds after which another worker may take over from one that no longer reports."""
REST: Final = 5.0
"""Minimum seconds between two passes."""
SHARE: Final = 10
"""A step, and a pass, rests this many times as long as it took."""
FEWEST: Final = 5
MOST: Final = 500
"""Workflows in one step: more while steps are quick. A workflow of very many jobs is slow to look at."""
QUICK: Final = 0.05
"""Seconds within which a step is quick; one of four times that is slow."""
FIRST_ID: Final = UUID(int=0)


class WatchingWorkflows(Chore):
    """Notes which workflows have ended, and which stand still."""

    name = "watching workflows"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._id = new_id()
        self._after = FIRST_ID
        self._limit = FEWEST
        self._took = 0.0

    async def run(self) -> float:
        """Look at the next open workflows."""
        tools = self._tools
        async with tools.link.use() as connection:
            if not await tools.store.take_chore(connection, CHORE, self._id, CHORE_TTL):
                return REST / 2
            began_at = time.monotonic()
            looked, reached = await tools.store.watch_workflows(connection, self._after, self._limit)
            took = time.monotonic() - began_at
            self._took += took
            if reached is None or looked < self._limit:
                rest = max(REST, SHARE * self._took)
                self._after, self._took = FIRST_ID, 0.0
                await tools.store.end_chore(connection, CHORE, self._id, rest)
                return REST / 2
        self._after = reached
        if took < QUICK:
            self._limit = min(2 * self._limit, MOST)
        elif took > 4 * QUICK:
            self._limit = max(self._limit // 2, FEWEST)
        return max(TICK / 20, SHARE * took)
