"""Uses the connections that callers pass: checked, and with a transaction around what is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from pgqueue.database.callers import Caller, caller_of
from pgqueue.database.pool import Database
from pgqueue.errors import UnusableConnectionError
from pgqueue.store import Store

if TYPE_CHECKING:
    from pgqueue.database.callers import CallersConnection
    from pgqueue.database.connection import Connection


class Within(NamedTuple):
    """A connection that a caller has passed, in whose transaction to write.

    *autocommit*: if it has none open, in one that is committed at once.
    """

    connection: CallersConnection
    autocommit: bool


class Callers:
    """The connections that callers have passed to one PgQueue."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self._known: WeakSet[object] = WeakSet()
        """Those that lead to the database of the PgQueue: a connection stays with its database."""
        self._identity = ""

    def forget(self) -> None:
        """Ask anew: the PgQueue's database may be another one."""
        self._known.clear()
        self._identity = ""

    @asynccontextmanager
    async def using(self, what: str, within: Within) -> AsyncIterator[Connection]:
        """Lend what runs statements on a caller's connection, for the method *what*.

        Raises UnknownConnectionError, UnusableConnectionError.
        """
        caller = caller_of(what, within.connection)
        if await caller.is_in_transaction():
            yield await self._runner(what, caller)
        elif within.autocommit:
            async with caller.begin():
                yield await self._runner(what, caller)
        elif await caller.begins_itself():
            yield await self._runner(what, caller)
        else:
            raise UnusableConnectionError(
                f"{what}: the connection has no transaction open, so nothing would be undone with yours; "
                "begin one, or pass autocommit=True to have this committed at once"
            )

    async def _runner(self, what: str, caller: Caller) -> Connection:
        runner, session = await caller.runner()
        if session not in self._known:
            theirs, name = await self._store.identify(runner)
            if theirs != self._identity:
                # Or the server has been started anew since this was asked.
                ours, own_name = await self._database.repeat(self._store.identify, is_asked=False)
                if theirs != ours:
                    own = f"{own_name!r}" if name != own_name else f"{own_name!r} of another server"
                    raise UnusableConnectionError(
                        f"{what}: the connection leads to database {name!r}, which is not the PgQueue's "
                        f"({own}); pass a connection to that one, or use a PgQueue whose DSN leads to yours"
                    )
                self._identity = ours
            self._known.add(session)
        return runner
