"""Statements of the test kit: what is left to be done, what has ended, and time that is moved."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.store.base import Statements

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

_ODD: Final = 0.000137
"""Seconds, of which each move of the times has some more: where a time is a part of a key, no row may meet
another that was moved before."""
_moves = count(1)


class TestingStatements(Statements):
    """Statements of the test kit."""

    async def find_work(
        self, connection: Connection, queues: Iterable[str], tasks: Iterable[str]
    ) -> list[str]:
        """Return what a worker of *queues* that declares *tasks* would do now, in words; empty: nothing."""
        kinds: list[str] = await connection.fetchval(self._sql["find_work"], list(queues), list(tasks))
        return kinds

    async def list_ended(self, connection: Connection, since: datetime) -> list[UUID]:
        """Return the jobs that have ended *since* then, in the order in which they did."""
        return [row["id"] for row in await connection.fetch(self._sql["list_ended"], since)]

    async def move_times(self, connection: Connection, seconds: float, *, of_leases: bool = False) -> None:
        """Have *seconds* pass for all that is stored, and a part of a second more.

        *connection* is one of pgqueue's own: others may not write its tables.
        """
        seconds += next(_moves) % 997 * _ODD
        moves = await connection.fetch(self._sql["plan_moves"], seconds, of_leases)
        await connection.execute(";\n".join(move[0] for move in moves), timeout=60)
        await connection.execute(self._sql["move_other_times"], seconds)
