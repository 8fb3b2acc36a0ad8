"""Connections and sessions of SQLAlchemy, on asyncpg or psycopg 3.

Statements run on the driver's connection, in the transaction that SQLAlchemy has begun there. It begins one
with the first statement of its own: on asyncpg pgqueue sends such a statement where its own would be the
first. psycopg begins by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection as BlockingConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from pgqueue.database.callers import Caller, Here, RunsHere, caller_of, here_of
from pgqueue.errors import UnknownConnectionError, UnusableConnectionError

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


def take(what: str, given: object) -> Caller | None:
    """Return an AsyncConnection or AsyncSession as a Caller, else None. Raises UnusableConnectionError."""
    if isinstance(given, async_scoped_session):
        given = given()
    if isinstance(given, AsyncConnection):
        # One that was not awaited has none yet.
        _check_open(what, is_closed=given.sync_connection is None or given.closed)
    return SqlalchemyCaller(what, given) if isinstance(given, AsyncConnection | AsyncSession) else None


def take_here(what: str, given: object) -> Here | None:
    """Return a Connection or Session as a Here, else None. Raises UnusableConnectionError."""
    if isinstance(given, scoped_session):
        given = given()
    if isinstance(given, BlockingConnection):
        _check_open(what, is_closed=given.closed)
    return SqlalchemyHere(what, given) if isinstance(given, BlockingConnection | Session) else None


class SqlalchemyCaller(Caller):
    """An AsyncConnection, or that of an AsyncSession."""

    def __init__(self, what: str, given: AsyncConnection | AsyncSession) -> None:
        self._what = what
        self._given = given

    async def is_in_transaction(self) -> bool:
        """Whether SQLAlchemy has begun one, and its driver does not commit each statement."""
        return self._given.in_transaction() and await self.begins_itself()

    async def begins_itself(self) -> bool:
        """Whether SQLAlchemy begins one with the first statement: not at isolation level AUTOCOMMIT."""
        return not (await self._reach())[2]

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[None]:
        """Begin a transaction, be it with the driver alone."""
        async with AsyncExitStack() as stack:
            if not self._given.in_transaction():
                await stack.enter_async_context(self._given.begin())
            _, driver, commits_itself = await self._reach()
            if commits_itself:
                await stack.enter_async_context(driver.begin())
            yield

    async def runner(self) -> tuple[Connection, object]:
        """Return that of the driver's connection, in SQLAlchemy's transaction."""
        connection, driver, _ = await self._reach()
        if not connection.in_transaction():
            # As its first statement would: what it has not begun it does not commit.
            await connection.begin()
        if not await driver.is_in_transaction() and not await driver.begins_itself():
            await connection.exec_driver_sql("select 1")
        return await driver.runner()

    async def _reach(self) -> tuple[AsyncConnection, Caller, bool]:
        """Return SQLAlchemy's connection, its driver's, and whether that commits each statement."""
        given = self._given
        connection = given if isinstance(given, AsyncConnection) else await given.connection()
        pooled = await connection.get_raw_connection()
        try:
            driver = caller_of(self._what, pooled.driver_connection)
        except UnknownConnectionError:
            raise _unknown_driver(self._what, connection) from None
        return connection, driver, _commits_itself(pooled)


class SqlalchemyHere(Here):
    """A Connection, or that of a Session."""

    def __init__(self, what: str, given: BlockingConnection | Session) -> None:
        self._what = what
        self._given = given

    def is_in_transaction(self) -> bool:
        """Whether SQLAlchemy has begun one, and its driver does not commit each statement."""
        return self._given.in_transaction() and self.begins_itself()

    def begins_itself(self) -> bool:
        """Whether SQLAlchemy begins one with the first statement: not at isolation level AUTOCOMMIT."""
        return not self._reach()[2]

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Begin a transaction, be it with the driver alone."""
        with ExitStack() as stack:
            if not self._given.in_transaction():
                stack.enter_context(self._given.begin())
            _, driver, commits_itself = self._reach()
            if commits_itself:
                stack.enter_context(driver.begin())
            yield

    def runner(self) -> tuple[RunsHere, object]:
        """Return that of the driver's connection, which begins with its first statement."""
        connection, driver, _ = self._reach()
        if not connection.in_transaction():
            # As its first statement would: what it has not begun it does not commit.
            connection.begin()
        return driver.runner()

    def _reach(self) -> tuple[BlockingConnection, Here, bool]:
        """Return SQLAlchemy's connection, its driver's, and whether that commits each statement."""
        given = self._given
        connection = given if isinstance(given, BlockingConnection) else given.connection()
        pooled = connection.connection
        try:
            driver = here_of(self._what, pooled.driver_connection)
        except UnknownConnectionError:
            raise _unknown_driver(self._what, connection) from None
        return connection, driver, _commits_itself(pooled)


def _commits_itself(pooled: Any) -> bool:
    # Psycopg's own, and SQLAlchemy's wrappers around drivers with asyncio, have it alike.
    return bool(pooled.dbapi_connection.autocommit)


def _check_open(what: str, *, is_closed: bool) -> None:
    if is_closed:
        raise UnusableConnectionError(f"{what}: the connection is not open; pass one inside its `with` block")


def _unknown_driver(what: str, connection: AsyncConnection | BlockingConnection) -> UnknownConnectionError:
    dialect = connection.dialect
    usable = "postgresql+psycopg"
    if isinstance(connection, AsyncConnection):
        usable = f"postgresql+asyncpg or {usable}"
    return UnknownConnectionError(
        f"{what}: this engine of SQLAlchemy uses {dialect.name}+{dialect.driver}; pgqueue works with engines "
        f"whose URL begins with {usable}"
    )
