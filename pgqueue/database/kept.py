"""The connection that a process keeps for the writes of its callers."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import asyncpg

from pgqueue.database.encoding import UNSTORABLE, unstorable
from pgqueue.database.link import Connects, Link
from pgqueue.database.outages import CONNECT_ERRORS, CONNECTION_ERRORS
from pgqueue.errors import DatabaseUnavailableError, MissingPrivilegeError, PgQueueError

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

CALLER_TIMEOUT: Final = 15.0
"""Seconds without an answer after which the connection of a caller's statement counts as lost."""


class Lends(Connects, Protocol):
    """What has other connections: see Database."""

    def lend(self) -> AbstractAsyncContextManager[Connection]:
        """Lend one of them inside the block."""

    def refusal(self, error: BaseException, since: float) -> PgQueueError:
        """Return the error to raise when *error* kept a connection from being opened."""


class Kept:
    """The connection that is kept for writes, lent to one write at a time.

    It is a class because a generator with `contextlib` would add a dozen calls to a single enqueue.
    """

    def __init__(self, database: Lends) -> None:
        self._database = database
        self._link = Link(database, durable=True, command_timeout=CALLER_TIMEOUT)
        self._returned: anyio.Event | None = None
        self.is_lent = False
        self._instead: AbstractAsyncContextManager[Connection] | None = None
        """A connection of the pool, where the server refuses this one."""

    async def __aenter__(self) -> Connection:
        self.is_lent = True
        began_at = time.monotonic()
        try:
            return await self._link.open()
        except (asyncpg.PostgresError, DatabaseUnavailableError):
            # Refused. What the pool has may work.
            instead = self._database.lend()
            try:
                connection = await instead.__aenter__()
            except BaseException:
                self._take_back()
                raise
            self._instead = instead
            return connection
        except BaseException as error:
            self._take_back()
            if isinstance(error, CONNECT_ERRORS):
                raise self._database.refusal(error, began_at) from error
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._instead is not None:
            instead, self._instead = self._instead, None
            try:
                await instead.__aexit__(kind, error, trace)
            finally:
                self._take_back()
            return
        if isinstance(error, CONNECTION_ERRORS):
            self._link.drop()
        self._take_back()
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            raise MissingPrivilegeError(str(error)) from error
        if isinstance(error, UNSTORABLE):
            raise unstorable(error) from error

    def _take_back(self) -> None:
        self.is_lent = False
        if self._returned is not None:
            self._returned.set()

    async def wait_returned(self) -> None:
        """Wait until no write is in progress."""
        while self.is_lent:
            self._returned = anyio.Event()
            await self._returned.wait()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        await self._link.close()
