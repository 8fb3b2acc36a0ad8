"""The type of the connections that statements are sent on."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from pgqueue import forks

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    """A dedicated connection, or one borrowed from a pool."""
    _Base = asyncpg.Connection[asyncpg.Record]
else:
    _Base = asyncpg.Connection


class OwnConnection(_Base):
    """A connection that pgqueue has opened. Children that are forked from this process do not share it.

    Otherwise the server would keep its session, with its locks and its transaction, until they end, too.
    """

    __slots__ = ("opened_at", "place", "session")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.opened_at = time.monotonic()
        self.session: int | None = None
        """The number of its session behind a pooler, known while it is in a transaction of a user's."""
        self.place: object = None
        """Where its server is, which `Hosts` knows."""
        forks.close_in_children(self)

    def note_session(self, number: int | None) -> None:
        """Note the session that it has for the time being."""
        self.session = number

    def terminate_anywhere(self) -> None:
        """Terminate it in the event loop that it belongs to, whichever runs here."""
        loop: asyncio.AbstractEventLoop = self._loop  # type: ignore[attr-defined]  # the stubs leave it out
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self.terminate)

    async def _cancel(self, *arguments: Any) -> None:
        # asyncpg asks its loop for the asyncio task to forget: a LoopToPlace has none.
        try:
            await super()._cancel(*arguments)  # type: ignore[misc]  # the stubs leave it out
        finally:
            self._cancellations.discard(asyncio.current_task())  # type: ignore[attr-defined]  # as above

    @property
    def protocol(self) -> object:
        """What speaks to the server for it."""
        return self._protocol  # type: ignore[attr-defined]  # as above

    def fileno(self) -> int:
        """Return the descriptor of its socket; -1: it is closed."""
        transport = self._transport  # type: ignore[attr-defined]  # the stubs leave it out
        return -1 if transport.is_closing() else int(transport.get_extra_info("socket").fileno())
