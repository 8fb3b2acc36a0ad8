"""What the pool of callers does otherwise than asyncpg's pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncpg

if TYPE_CHECKING:
    _BasePool = asyncpg.Pool[asyncpg.Record]
else:
    _BasePool = asyncpg.Pool

POOLED_CALLER_PATIENCE: Final = 8.0
"""Seconds without an answer after which the connection of a caller's statement counts as lost, behind a
pooler and at first: a dead one is noticed within ten. The limit doubles where it was reached."""
POOL_QUERIES: Final = 50_000
"""Statements after which a connection of the callers' pool is replaced, as asyncpg's own pools do."""
POOL_IDLE: Final = 300.0
"""Seconds after which a connection of that pool is closed if nobody needs it. One stays."""


class CallersPool(_BasePool):
    """A pool that opens a connection for whoever asks for one, and none by itself.

    asyncpg's own replaces the last connection as soon as it is lost, and logs a traceback for each try at a
    server that is away.
    """

    __slots__ = ()

    def _schedule_min_size_maintenance(self) -> None:
        pass


def make_room(pool: asyncpg.Pool[asyncpg.Record] | None) -> bool:
    """Close a connection of *pool* that nobody uses, if another one is left; return whether there was one.

    For those whom the server refuses another one: an idle connection would keep it from them for minutes. One
    stays, because the limit may have been lowered far below what is connected, and a new one be refused, too.
    """
    holders: list[Any] = [] if pool is None else getattr(pool, "_holders")  # noqa: B009  # asyncpg has no other way
    connected = [holder for holder in holders if holder.is_connected()]
    idle = [holder for holder in connected if holder.is_idle()]
    if len(connected) < 2 or not idle:
        return False
    idle[-1].terminate()
    return True


async def keep_session(_: object) -> None:
    """Leave a session as it is when its connection is returned."""
    # asyncpg's own reset costs a round trip each time a connection is returned, to undo settings that
    # pgqueue's statements never make.
    return
