"""Removes what has served its time beside the jobs: keys, processed events, statistics, ended operations.

Jobs themselves are removed by `retention`. Each table has a chore of its own, so an error in one does not let
the others grow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.model.ids import new_id
from pgqueue.store import FirstOf
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

INTERVAL: Final = 10.0
"""Seconds between two runs."""
LIMIT: Final = 2000
"""Rows that one statement removes."""
BATCHES: Final = 10
"""Such statements in one run, at most: the other chores must not wait for them."""
MERGE_CHORE: Final = "merge stats"

Remove = Callable[["Connection", int, Collection[UUID]], Awaitable[int]]
"""Removes up to so many rows, but for some; returns how many it looked at."""


class Tidying(Chore):
    """Removes rows from one table."""

    def __init__(self, tools: Tools, what: str, remove: Remove, first_of: FirstOf) -> None:
        super().__init__()
        self.name = f"removing {what}"
        self._tools = tools
        self._remove = remove
        self._find = tools.first_of(first_of)
        self._broken = tools.broken_rows(self.name)

    async def run(self) -> float:
        """Remove what is left over, in batches. A row that cannot be removed is skipped for a while."""
        for _ in range(BATCHES):
            if not await self._broken.move(self._tools.link, LIMIT, self._do, self._find, self._skip):
                return INTERVAL
        return TICK

    async def _do(self, limit: int, without: Collection[UUID]) -> int:
        async with self._tools.link.use() as connection:
            return await self._remove(connection, limit, without)

    async def _skip(self, row: UUID, error: Exception) -> bool:
        self._broken.skip(row, error)
        return False


class MergingStats(Tidying):
    """Merges old statistics: many short stretches of time into one long one."""

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools, "old statistics by merging them", tools.store.merge_stats, "merge_stats")
        self._id = new_id()

    async def run(self) -> float:
        """Merge, if no other worker is doing it: two would make two rows of what is to be one."""
        async with self._tools.link.use() as connection:
            is_ours = await self._tools.store.take_chore(connection, MERGE_CHORE, self._id, INTERVAL)
        return await super().run() if is_ours else INTERVAL


def tidying_chores(tools: Tools) -> Iterator[Chore]:
    """Make the chores, one a table."""
    store = tools.store
    yield Tidying(tools, "idempotency keys that are no longer held", store.purge_keys, "purge_keys")
    yield Tidying(tools, "events that were processed long ago", store.purge_inbox, "purge_inbox")
    yield Tidying(tools, "old statistics", store.purge_stats, "purge_stats")
    yield MergingStats(tools)
    yield Tidying(tools, "bulk operations that ended long ago", store.purge_bulk, "purge_bulk")
    yield Tidying(tools, "mass redrives that ended long ago", store.purge_redrives, "purge_redrives")
