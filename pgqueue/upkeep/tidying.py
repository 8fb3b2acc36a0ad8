"""Removes what has served its time beside the jobs: idempotency keys, processed events, statistics.

Jobs themselves are removed by `retention`. Each table has a chore of its own, so an error in one does not let
the others grow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final

from pgqueue.model.ids import new_id
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

Remove = Callable[["Connection", int], Awaitable[int]]
"""Removes up to so many rows; returns how many it looked at."""


class Tidying(Chore):
    """Removes rows from one table."""

    def __init__(self, tools: Tools, what: str, remove: Remove) -> None:
        super().__init__()
        self.name = f"removing {what}"
        self._tools = tools
        self._remove = remove

    async def run(self) -> float:
        """Remove what is left over, in batches."""
        for _ in range(BATCHES):
            async with self._tools.link.use() as connection:
                looked_at = await self._remove(connection, LIMIT)
            if looked_at < LIMIT:
                return INTERVAL
        return TICK


class MergingStats(Tidying):
    """Merges old statistics: many short stretches of time into one long one."""

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools, "old statistics by merging them", tools.store.merge_stats)
        self._id = new_id()

    async def run(self) -> float:
        """Merge, if no other worker is doing it: two would make two rows of what is to be one."""
        async with self._tools.link.use() as connection:
            is_ours = await self._tools.store.take_chore(connection, MERGE_CHORE, self._id, INTERVAL)
        return await super().run() if is_ours else INTERVAL


def tidying_chores(tools: Tools) -> Iterator[Chore]:
    """Make the chores, one a table."""
    yield Tidying(tools, "idempotency keys that are no longer held", tools.store.purge_keys)
    yield Tidying(tools, "events that were processed long ago", tools.store.purge_inbox)
    yield Tidying(tools, "old statistics", tools.store.purge_stats)
    yield MergingStats(tools)
