"""Lets the loops of a worker share connections where the server refuses it another one.

Roles, databases and servers have limits, passwords are changed while connections go on, and each loop has a
connection of its own. One that gets none borrows that of another loop while that is idle, so a worker that
can claim can also write how jobs ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from pgqueue.database.link import Link
from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.database.patience import Reminder
from pgqueue.database.pool import Database
from pgqueue.errors import DatabaseUnavailableError

logger = logging.getLogger("pgqueue.database")

REFUSALS: Final = (asyncpg.PostgresError, DatabaseUnavailableError)
"""How a login is refused: the server answers and says no, for as long as it likes."""
REFUSED_FOR: Final = 3.0
"""Seconds after a refusal in which no other connection is asked for, where one can be borrowed."""


class Sharing:
    """The links of one worker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._links: list[SharedLink] = []
        self._refused_until = float("-inf")
        self._reminder = Reminder()
        self._changed = asyncio.Event()

    def link(self, *, durable: bool, borrows: bool = False) -> Link:
        """Return a link that shares its connection with the others.

        *borrows*: it is used too rarely for a connection of its own, and uses that of another while there is
        one.
        """
        link = SharedLink(self._database, self, durable=durable, borrows=borrows)
        self.add(link)
        return link

    def add(self, link: SharedLink) -> None:
        """Have the others borrow the connection of *link*."""
        self._links.append(link)

    @property
    def connected(self) -> list[SharedLink]:
        """The links that have a connection."""
        return [link for link in self._links if link.is_open]

    @property
    def is_scarce(self) -> bool:
        """Whether the server has just refused a connection."""
        return self._refused_until > time.monotonic()

    def refuse(self, error: BaseException) -> None:
        """Note that the server refuses another connection."""
        self._refused_until = time.monotonic() + REFUSED_FOR
        logger.log(
            self._reminder.level(),
            "the server refuses another connection (%s); the parts of the worker share those that it has",
            error,
        )

    def make_room(self, error: BaseException) -> None:
        """Close a connection that is idle, if another one is left: for a loop that can borrow none."""
        self.refuse(error)
        connected = self.connected
        idle = [link for link in connected if not link.users]
        if len(connected) > 1 and idle:
            idle[-1].drop()

    def tell(self) -> None:
        """Wake those that wait for a connection."""
        self._changed.set()

    async def wait(self) -> None:
        """Wait until a connection may be idle."""
        if self._changed.is_set():
            self._changed = asyncio.Event()
        await self._changed.wait()


class SharedLink(Link):
    """A link that borrows the connection of another one where it gets none of its own."""

    def __init__(self, database: Database, sharing: Sharing, *, durable: bool, borrows: bool) -> None:
        super().__init__(database, durable=durable)
        self._sharing = sharing
        self._borrows = borrows
        self._lender: SharedLink | None = None
        """Whose connection it uses now."""
        self.users = 0
        """How often its connection is in use now: uses of one loop may nest."""
        self.is_lent = False

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """See Link. Waits while another loop uses the only connection there is."""
        lender = self._lender
        if lender is not None and lender._connection is not None:  # noqa: SLF001  # of the same class
            # Nested in a use for which it was borrowed.
            yield lender._connection  # noqa: SLF001
            return
        link = self if self.is_open and not self.is_lent else await self._take()
        connection = link._connection  # noqa: SLF001
        assert connection is not None
        link.users += 1
        if link is not self:
            link.is_lent, self._lender = True, link
        try:
            if self._database.is_pooled:
                async with self._database.in_session(connection, durable=self._durable):
                    yield connection
            elif self._durable and not link._durable:  # noqa: SLF001
                async with connection.transaction():
                    await connection.execute("set local synchronous_commit to on")
                    yield connection
            else:
                yield connection
        except CONNECTION_ERRORS as error:
            link.lose(error)
            raise
        finally:
            link.users -= 1
            if link is not self:
                link.is_lent, self._lender = False, None
            self._sharing.tell()

    async def _take(self) -> SharedLink:
        """Return the link whose connection to use: this one, or one that is idle."""
        sharing = self._sharing
        while True:
            if self.is_lent:
                await sharing.wait()
                continue
            connected = sharing.connected
            if self.is_open or not (connected and (self._borrows or sharing.is_scarce)):
                try:
                    await self.open()
                except asyncpg.PostgresConnectionError:
                    # Lost, and not refused.
                    raise
                except REFUSALS as error:
                    sharing.refuse(error)
                    if not sharing.connected:
                        raise
                    continue
                return self
            for link in connected:
                if not link.users:
                    return link
            await sharing.wait()


class FirstLink(SharedLink):
    """A link that can borrow nothing; calls *make_room* when the server refuses its connection.

    It can lend: see `beside`.
    """

    def __init__(self, database: Database, make_room: Callable[[BaseException], object]) -> None:
        sharing = Sharing(database)
        super().__init__(database, sharing, durable=False, borrows=False)
        sharing.add(self)
        self._make_room = make_room

    def beside(self, *, durable: bool) -> Link:
        """Return a link of the same event loop that borrows this one's connection where it gets none."""
        return self._sharing.link(durable=durable)

    async def open(self) -> asyncpg.Connection[asyncpg.Record]:
        """See Link."""
        try:
            return await super().open()
        except asyncpg.TooManyConnectionsError as error:
            self._make_room(error)
            raise
