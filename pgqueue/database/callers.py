"""Connections of callers, of whatever driver, for the statements of one call.

The statements are pgqueue's own: their parameters are `$1`, `$2` ..., all values are sent and returned as
text, and the server is told of no types but those in the statement. So neither the codecs, adapters and row
factories of a connection matter nor how its driver writes parameters. A connection of asyncpg runs them as it
is. Another one is made to look like it, as far as enqueueing needs.

A library's module in `pgqueue.integrations` has two functions. `take` returns a Caller for a connection that
is awaited, `take_here` a Here for a synchronous one; both return None for what they do not know.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast

import anyio
import asyncpg
from asyncpg.pool import PoolConnectionProxy

from pgqueue.errors import UnknownConnectionError, UnusableConnectionError

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy.ext.asyncio
    import sqlalchemy.orm

    from pgqueue.database.connection import Connection

    class DjangoConnection(Protocol):
        """`django.db.connection`. Django has no types."""

        alias: str
        vendor: str
        in_atomic_block: bool

    CallersConnection: TypeAlias = (
        Connection
        | psycopg.AsyncConnection[Any]
        | sqlalchemy.ext.asyncio.AsyncConnection
        | sqlalchemy.ext.asyncio.AsyncSession
        | sqlalchemy.ext.asyncio.async_scoped_session[Any]
    )
    """What `connection=` takes in programs with asyncio."""
    BlockingConnection: TypeAlias = (
        psycopg.Connection[Any]
        | sqlalchemy.Connection
        | sqlalchemy.orm.Session
        | sqlalchemy.orm.scoped_session[Any]
        | DjangoConnection
    )
    """What `connection=` takes in `pgqueue.blocking`."""


LIBRARIES: Final = {
    "django": "pgqueue.integrations.django_connections",
    "psycopg": "pgqueue.integrations.psycopg",
    "sqlalchemy": "pgqueue.integrations.sqlalchemy",
}
"""Libraries whose connections are taken, by the package that has their classes."""
AWAITED: Final = (
    "a connection of asyncpg, an AsyncConnection of psycopg 3, or an AsyncConnection or AsyncSession of "
    "SQLAlchemy (on asyncpg or psycopg)"
)
BLOCKING: Final = (
    "a Connection of psycopg 3, a Connection or Session of SQLAlchemy (on psycopg), or Django's connection"
)
ROLL_BACK_WITHIN: Final = 5.0
"""Seconds that undoing a failed write may take where its task is cancelled."""


class Refusal(Enum):
    """Why a statement on a caller's connection failed, as far as the call knows what to do about it."""

    LANE = auto()
    """A lane was removed, or is younger than the transaction's snapshot: by its id it can be used."""
    ID = auto()
    """A job has the id."""
    TEXT = auto()
    """The database's encoding, or the connection's, does not have a character."""


_REFUSALS: Final = {
    "23502": Refusal.LANE,
    "40001": Refusal.LANE,
    "23505": Refusal.ID,
    "22P05": Refusal.TEXT,
    "22021": Refusal.TEXT,
}


def refusal_of(error: Exception) -> Refusal | None:
    """Return why a statement failed, whatever driver says so; None: what the caller is to be told."""
    if isinstance(error, UnicodeEncodeError):
        return Refusal.TEXT
    return _REFUSALS.get(getattr(error, "sqlstate", None) or "")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of text, by name and in order."""

    names: Mapping[str, int]
    values: Sequence[str | None]

    def __getitem__(self, name: str) -> str | None:
        return self.values[self.names[name]]

    def __iter__(self) -> Iterator[str | None]:
        return iter(self.values)


def as_text(value: object) -> str | None:
    """Return a parameter as the server reads it; lists become arrays."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "{" + ",".join(map(_element, value)) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _element(value: object) -> str:
    text = as_text(value)
    if text is None:
        return "null"
    return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'


class Runner(ABC):
    """Runs statements, with the methods of asyncpg's connections that the statements of a call use."""

    @abstractmethod
    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """Run a statement and return its rows."""

    async def fetchrow(self, sql: str, *arguments: object) -> Row | None:
        """Run a statement and return its first row."""
        rows = await self.fetch(sql, *arguments)
        return rows[0] if rows else None

    async def fetchval(self, sql: str, *arguments: object) -> str | None:
        """Run a statement and return the first value of its first row."""
        row = await self.fetchrow(sql, *arguments)
        return None if row is None else row.values[0]

    async def execute(self, sql: str, *arguments: object) -> None:
        """Run a statement."""
        await self.fetch(sql, *arguments)

    @abstractmethod
    async def recover(self) -> None:
        """Have the connection take statements again after one that failed, if it needs to be told."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Undo what the block wrote if it raises: by a savepoint, as the transaction is the caller's."""
        await self.execute("savepoint pgqueue")
        try:
            yield
        except BaseException:
            # Of a connection that is lost, what the block raised says more.
            with anyio.move_on_after(ROLL_BACK_WITHIN, shield=True), suppress(Exception):
                await self.recover()
                await self.execute("rollback to savepoint pgqueue")
                await self.execute("release savepoint pgqueue")
            raise
        await self.execute("release savepoint pgqueue")


class Caller(ABC):
    """A caller's connection. What keeps it from being used is raised as UnusableConnectionError."""

    @abstractmethod
    async def is_in_transaction(self) -> bool:
        """Whether the caller has a transaction open."""

    @abstractmethod
    async def begins_itself(self) -> bool:
        """Whether its library begins one with the first statement, which the caller has to commit."""

    @abstractmethod
    def begin(self) -> AbstractAsyncContextManager[object]:
        """Begin a transaction, which ends with the block."""

    @abstractmethod
    async def runner(self) -> tuple[Connection, object]:
        """Return what runs statements in the transaction, and the driver's connection, for its life."""


class Here(ABC):
    """A synchronous connection, used in the thread of its caller. See Caller."""

    @abstractmethod
    def is_in_transaction(self) -> bool:
        """Whether the caller has a transaction open."""

    @abstractmethod
    def begins_itself(self) -> bool:
        """Whether its library begins one with the first statement, which the caller has to commit."""

    @abstractmethod
    def begin(self) -> AbstractContextManager[object]:
        """Begin a transaction, which ends with the block."""

    @abstractmethod
    def runner(self) -> tuple[RunsHere, object]:
        """Return what runs statements in the transaction, and the driver's connection, for its life."""


class RunsHere(Protocol):
    """Runs statements in the thread of its caller."""

    def fetch(self, sql: str, arguments: Sequence[str | None]) -> Sequence[Row]:
        """Run a statement and return its rows."""

    def recover(self) -> None:
        """Have the connection take statements again after one that failed, if it needs to be told."""


class AsyncpgCaller(Caller):
    """A connection of asyncpg, which runs the statements itself."""

    def __init__(self, what: str, connection: Connection) -> None:
        # What a pool lends stands before the connection.
        session: asyncpg.Connection[Any] | None = (
            connection._con if isinstance(connection, PoolConnectionProxy) else connection  # type: ignore[attr-defined]  # noqa: SLF001  # the stubs leave it out
        )
        if session is None:
            raise UnusableConnectionError(
                f"{what}: the connection was returned to its pool; pass one that you hold"
            )
        if session.is_closed():
            raise UnusableConnectionError(f"{what}: the connection is closed; pass an open one")
        if session._loop is not asyncio.get_running_loop():  # type: ignore[attr-defined]  # noqa: SLF001  # as above
            raise UnusableConnectionError(
                f"{what}: the connection belongs to another event loop; pass one that was made in this one"
            )
        self._connection = connection
        self._session = session

    async def is_in_transaction(self) -> bool:
        """Whether the caller has a transaction open."""
        return self._session.is_in_transaction()

    async def begins_itself(self) -> bool:
        """Whether the first statement begins one: it does not."""
        return False

    def begin(self) -> AbstractAsyncContextManager[object]:
        """Begin a transaction."""
        return cast("AbstractAsyncContextManager[object]", self._connection.transaction())

    async def runner(self) -> tuple[Connection, object]:
        """Return the connection, and the one behind what a pool has lent."""
        return self._connection, self._session


def caller_of(what: str, given: object) -> Caller:
    """Return a connection as *what* can use it. Raises UnknownConnectionError, UnusableConnectionError."""
    if isinstance(given, Caller):
        return given
    if isinstance(given, asyncpg.Connection | PoolConnectionProxy):
        return AsyncpgCaller(what, given)
    module = _library_of(type(given))
    caller: Caller | None = None if module is None else module.take(what, given)
    if caller is None:
        raise _unknown(what, given, AWAITED, is_other=module is not None and module.take_here(what, given))
    return caller


def here_of(what: str, given: object) -> Here:
    """Return a synchronous connection as *what* can use it. Raises as `caller_of` does."""
    module = _library_of(type(given))
    here: Here | None = None if module is None else module.take_here(what, given)
    if here is None:
        raise _unknown(what, given, BLOCKING, is_other=_is_awaited(module, what, given))
    return here


def _is_awaited(module: Any, what: str, given: object) -> bool:
    if isinstance(given, asyncpg.Connection | PoolConnectionProxy):
        return True
    return module is not None and module.take(what, given) is not None


def _unknown(what: str, given: object, taken: str, *, is_other: object) -> UnknownConnectionError:
    kind = f"{type(given).__module__}.{type(given).__qualname__}"
    if not is_other:
        return UnknownConnectionError(f"{what}: connection= takes {taken}, got {kind}")
    if taken is AWAITED:
        advice = f"{kind} is synchronous and works with pgqueue.blocking only"
    else:
        advice = f"{kind} is for asyncio, and pgqueue.blocking takes synchronous connections only"
    return UnknownConnectionError(f"{what}: {advice}; here connection= takes {taken}")


def _library_of(kind: type) -> Any:
    """Return the module for the library that a class, or one that it inherits from, belongs to."""
    for each in kind.__mro__:
        package = each.__module__.partition(".")[0]
        if package in LIBRARIES:
            return import_module(LIBRARIES[package])
    return None
