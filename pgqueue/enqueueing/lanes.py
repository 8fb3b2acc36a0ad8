"""The lanes that a process enqueues to: their ids, made or brought back where that is needed.

A lane is made in a transaction of its own. In the caller's, whoever enqueues to the same new queue would wait
for its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

import asyncpg

from pgqueue.database.pool import Database
from pgqueue.store import Store

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

KEPT: Final = 3600.0
"""Seconds after which ids are asked for anew. A lane without jobs can go, and come back with another id."""
LANE_WAIT: Final = 1.0
"""Seconds to wait for a lane that another transaction is making; it may be the caller's own."""

Names = AbstractSet[tuple[str, int]]
"""Lanes by queue and priority."""


class Lanes:
    """The lanes of one PgQueue, as far as it has asked for them."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self.known: dict[tuple[str, int], int] = {}
        """Ids by queue and priority. Hints: the statements look lanes up by their names."""
        self._expiry: asyncio.TimerHandle | None = None

    def forget(self) -> None:
        """Ask for lanes anew."""
        self.known.clear()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    async def learn(self, names: Names) -> None:
        """Ask for those of *names* that are not known; those that are missing are made."""
        missing = names - self.known.keys()
        if missing:
            self._note(
                await self._database.repeat(
                    lambda connection: self._store.learn_lanes(connection, missing), is_asked=False
                )
            )

    async def learn_beside(self, connection: Connection, names: Names) -> Mapping[tuple[str, int], int]:
        """Return the ids of *names* for a transaction on the caller's *connection*; missing ones are made.

        Not in that transaction, unless one is being made in another: that may be the same.
        """
        learned = await self._database.repeat(lambda own: self._learn_soon(own, names), is_asked=False)
        if learned is None:
            # Not noted: they go if the caller's transaction is rolled back.
            return await self._store.learn_lanes(connection, names)
        self._note(learned)
        return learned

    async def _learn_soon(self, own: Connection, names: Names) -> Mapping[tuple[str, int], int] | None:
        try:
            async with own.transaction():
                await self._store.limit_lock_wait(own, LANE_WAIT)
                return await self._store.learn_lanes(own, names)
        except asyncpg.LockNotAvailableError:
            return None

    def _note(self, learned: Mapping[tuple[str, int], int]) -> None:
        self.known.update(learned)
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(KEPT, self.forget)
