"""Removes lanes (queues at a priority) that nobody uses any more: names that clients make up do not stay.

A removed lane keeps its row, because ended jobs show the queue by it. To enqueue to it brings it back, but a
transaction that was open when it was removed may not have seen that. So removed lanes are looked at like the
others, and those with jobs come back; for an hour workers walk them anyway. A row goes when no job can be
left that refers to it.
"""

from __future__ import annotations

import time
from typing import Final

from pgqueue.model.ids import new_id
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

FIRST_PASS: Final = 10.0
"""Seconds after its start before a worker first looks."""
STEP: Final = 2000
"""Lanes in one step."""
REST: Final = 60.0
"""Seconds between two passes."""
IDLE: Final = 24 * 3600.0
"""Seconds without a job after which a lane is removed."""
KEPT: Final = 2 * 24 * 3600.0
"""Seconds for which a removed lane stays at least, and for which a transaction may be open."""
CHORE: Final = "remove lanes"
CHORE_TTL: Final = 120.0
"""Seconds after which another worker may take over from one that no longer reports."""


class RemovingLanes(Chore):
    """Removes lanes that nobody uses; brings back those that turn out to be used."""

    name = "removing lanes without jobs"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._id = new_id()
        self._after = 0
        self.due_at = time.monotonic() + FIRST_PASS

    def forget(self) -> None:
        """See Chore."""
        self._after = 0

    async def run(self) -> float:
        """Look at the next lanes; at the end of a pass, remove those that are no longer used."""
        store = self._tools.store
        async with self._tools.link.use() as connection:
            if not await store.take_chore(connection, CHORE, self._id, CHORE_TTL):
                return REST / 6
            seen = await store.look_at_lanes(connection, self._after, STEP)
        self._tools.announcer.committed(ready=seen.brought_back)
        if seen.looked == STEP and seen.reached is not None:
            self._after = seen.reached
            return TICK
        self._after = 0
        async with self._tools.link.use() as connection:
            await store.remove_lanes(connection, IDLE, STEP)
        async with self._tools.link.use() as connection:
            await store.delete_lanes(connection, KEPT, STEP)
            await store.end_chore(connection, CHORE, self._id, REST)
        return REST / 6
