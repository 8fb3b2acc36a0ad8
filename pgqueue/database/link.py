"""A connection that one loop owns, opened again after it broke."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

import anyio
import asyncpg

from pgqueue.database.outages import CONNECTION_ERRORS

WORKER_TIMEOUT: Final = 60.0
"""The same for a worker's statement, which no caller waits for and which may move a thousand jobs."""
POOLED_PATIENCE: Final = 5.0
"""The same behind a pooler, where the server cannot be asked whether it is at work, and at first: the limit
doubles with each statement that it ends, so that a batch that needs longer gets it."""


class Connects(Protocol):
    """What opens connections: see Database."""

    is_pooled: bool

    async def connect(
        self, *, durable: bool, command_timeout: float = WORKER_TIMEOUT
    ) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection."""

    def in_session(
        self, connection: asyncpg.Connection[asyncpg.Record], *, durable: bool = True
    ) -> AbstractAsyncContextManager[None]:
        """Apply pgqueue's settings inside the block."""


class Link:
    """A connection that one loop owns. It is opened at first use, and again after it broke."""

    def __init__(self, database: Connects, *, durable: bool, command_timeout: float = WORKER_TIMEOUT) -> None:
        self._database = database
        self._durable = durable
        self._command_timeout = command_timeout
        self._patience = POOLED_PATIENCE
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has a connection."""
        return self._connection is not None and not self._connection.is_closed()

    async def open(self) -> asyncpg.Connection[asyncpg.Record]:
        """Return the connection, opening it if necessary. Raises one of CONNECTION_ERRORS."""
        if self._connection is None or self._connection.is_closed():
            limit = self._command_timeout
            if self._database.is_pooled:
                limit = min(limit, self._patience)
            self._connection = await self._database.connect(durable=self._durable, command_timeout=limit)
        return self._connection

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """Lend the connection. Raises one of CONNECTION_ERRORS if it cannot be opened, or breaks."""
        connection = await self.open()
        try:
            if self._database.is_pooled:
                async with self._database.in_session(connection, durable=self._durable):
                    yield connection
            else:
                yield connection
        except CONNECTION_ERRORS as error:
            self.lose(error)
            raise

    def lose(self, error: BaseException) -> None:
        """Drop the connection because of *error*. A statement that had no time enough gets more."""
        if isinstance(error, TimeoutError):
            self._patience *= 2
        self.drop()

    def drop(self) -> None:
        """Drop the connection, because after one of CONNECTION_ERRORS its session cannot be trusted."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def drop_unfinished(self) -> None:
        """Drop the connection if a transaction is open on it. A cancelled statement is waited for."""
        if self._connection is not None and self._connection.is_in_transaction():
            self.drop()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            with anyio.move_on_after(1) as scope:
                await connection.close()
            if scope.cancelled_caught:
                connection.terminate()
