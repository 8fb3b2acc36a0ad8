"""Connections of psycopg 3, awaited and synchronous.

Its raw cursors take parameters as pgqueue writes them. Theirs are adapters of their own: all text, of which
the server infers the types, so that neither what a connection adapts nor how it returns rows matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, cast

import psycopg
from psycopg import AsyncRawCursor, RawCursor
from psycopg.adapt import AdaptersMap
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.types.none import NoneDumper
from psycopg.types.string import StrDumperUnknown, TextLoader

from pgqueue.database.callers import Caller, Here, Row, Runner, RunsHere, as_text
from pgqueue.errors import UnusableConnectionError

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

_TEXT: Final = AdaptersMap()
_TEXT.register_dumper(str, StrDumperUnknown)
_TEXT.register_dumper(type(None), NoneDumper)
_TEXT.register_loader(0, TextLoader)
"""Zero is the type of whatever has no loader of its own: here, of all."""


def _make_rows(cursor: Any) -> Callable[[Sequence[Any]], Row]:
    names: Mapping[str, int] = {column.name: place for place, column in enumerate(cursor.description or ())}
    return lambda values: Row(names, values)


class _AsyncCursor(AsyncRawCursor[Row]):
    @property
    def adapters(self) -> AdaptersMap:
        return _TEXT


class _Cursor(RawCursor[Row]):
    @property
    def adapters(self) -> AdaptersMap:
        return _TEXT


def take(what: str, given: object) -> Caller | None:
    """Return an AsyncConnection as a Caller; None: it is none. Raises UnusableConnectionError."""
    return PsycopgCaller(what, given) if isinstance(given, psycopg.AsyncConnection) else None


def take_here(what: str, given: object) -> Here | None:
    """Return a Connection as a Here; None: it is none. Raises UnusableConnectionError."""
    return PsycopgHere(what, given) if isinstance(given, psycopg.Connection) else None


class PsycopgCaller(Caller, Runner):
    """An AsyncConnection."""

    def __init__(self, what: str, connection: psycopg.AsyncConnection[Any]) -> None:
        _check_open(what, connection)
        self._connection = connection

    async def is_in_transaction(self) -> bool:
        """Whether the caller has a transaction open."""
        await self.recover()
        return _is_in_transaction(self._connection)

    async def begins_itself(self) -> bool:
        """Whether the first statement begins one."""
        return not self._connection.autocommit

    def begin(self) -> AbstractAsyncContextManager[object]:
        """Begin a transaction."""
        return self._connection.transaction()

    async def runner(self) -> tuple[Connection, object]:
        """Return itself, and the connection."""
        return cast("Connection", self), self._connection

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """Run a statement and return its rows."""
        async with _AsyncCursor(self._connection, row_factory=_make_rows) as cursor:
            await cursor.execute(sql.encode(), [as_text(each) for each in arguments])
            await self.recover()
            return await cursor.fetchall() if cursor.description is not None else ()

    async def recover(self) -> None:
        """Have a pipeline say what has failed, and go on."""
        if _is_pipelined(self._connection):
            async with self._connection.pipeline() as pipeline:
                await pipeline.sync()


class PsycopgHere(Here):
    """A Connection."""

    def __init__(self, what: str, connection: psycopg.Connection[Any]) -> None:
        _check_open(what, connection)
        self._connection = connection

    def is_in_transaction(self) -> bool:
        """Whether the caller has a transaction open."""
        self.recover()
        return _is_in_transaction(self._connection)

    def begins_itself(self) -> bool:
        """Whether the first statement begins one."""
        return not self._connection.autocommit

    def begin(self) -> AbstractContextManager[object]:
        """Begin a transaction."""
        return self._connection.transaction()

    def runner(self) -> tuple[RunsHere, object]:
        """Return itself, and the connection."""
        return self, self._connection

    def fetch(self, sql: str, arguments: Sequence[str | None]) -> Sequence[Row]:
        """Run a statement and return its rows."""
        with _Cursor(self._connection, row_factory=_make_rows) as cursor:
            cursor.execute(sql.encode(), arguments)
            self.recover()
            return cursor.fetchall() if cursor.description is not None else ()

    def recover(self) -> None:
        """Have a pipeline say what has failed, and go on."""
        if _is_pipelined(self._connection):
            with self._connection.pipeline() as pipeline:
                pipeline.sync()


def _check_open(what: str, connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> None:
    if connection.closed:
        raise UnusableConnectionError(f"{what}: the connection is closed; pass an open one")


def _is_in_transaction(connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> bool:
    return connection.pgconn.transaction_status != TransactionStatus.IDLE


def _is_pipelined(connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> bool:
    return connection.pgconn.pipeline_status != PipelineStatus.OFF
