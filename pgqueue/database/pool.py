"""Connections to the database: one pool for callers, and one link for each loop of a worker.

Detects poolers in transaction mode. Behind them each transaction may get another server session, so session
settings, prepared statements, LISTEN and advisory locks do not work, and pgqueue does without them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet

import anyio
import asyncpg

from pgqueue.database import settings as session
from pgqueue.database.callers_pool import (
    POOL_IDLE,
    POOL_QUERIES,
    POOLED_CALLER_PATIENCE,
    CallersPool,
    keep_session,
    make_room,
)
from pgqueue.database.connection import OwnConnection
from pgqueue.database.dsn import Dsn, read_dsn, refused_parameter
from pgqueue.database.encoding import UNSTORABLE, Encoding, encoding_of, unstorable
from pgqueue.database.hosts import Hosts
from pgqueue.database.kept import CALLER_TIMEOUT, Kept
from pgqueue.database.link import WORKER_TIMEOUT
from pgqueue.database.outages import (
    CONNECT_ERRORS,
    CONNECTION_ERRORS,
    LOST_SESSIONS,
    PARAMETER_ERRORS,
    RECONNECT_PAUSES,
    TRANSLATED,
    is_away,
    is_of_a_value,
    may_have_happened,
    refused,
    told,
    unavailable,
)
from pgqueue.database.patience import Reminder, Tries
from pgqueue.database.resolving import resolve_apart
from pgqueue.database.types import know_types
from pgqueue.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    MissingPrivilegeError,
    NotOpenError,
    PgQueueError,
    WrongEventLoopError,
)
from pgqueue.own_tasks import was_asked

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from pgqueue.database.connection import Connection

    Pool = asyncpg.Pool[asyncpg.Record]

logger = logging.getLogger("pgqueue.database")


T = TypeVar("T")

CLOSE_WITHIN: Final = 1.0
"""Seconds that a connection in use has to finish before it is closed."""


CONNECT_TIMEOUT: Final = 5.0
"""Seconds within which a connection has to be there, where neither PgQueue nor DSN say otherwise."""


class Database:
    """One database, as one process sees it."""

    def __init__(
        self,
        dsn: str | None,
        *,
        schema: str,
        max_connections: int,
        connect_timeout: float | None,
        force_generic_plans: bool,
        connect_options: dict[str, Any],
    ) -> None:
        self.schema = schema
        self.encoding: Encoding | None = None
        """The database's encoding, once open; None: UTF8."""
        self.is_pooled = False
        """Whether the connection leads through a transaction-mode pooler; known once open."""
        self.connects = 0
        """How many dedicated connections were opened. One more: the server may have crashed meanwhile."""
        self._max_connections = max_connections
        self._given_timeout = connect_timeout
        self._connect_options = connect_options
        self.set_dsn(dsn)
        self._own_settings = {**session.PLANNER, f"{schema}.writer": "on"}
        if force_generic_plans:
            self._own_settings["plan_cache_mode"] = "force_generic_plan"
        self._settings = self._own_settings
        self._pool: Pool | None = None
        self._plain_pool: Pool | None = None
        self._turn = anyio.Lock()
        self._waiting = 0
        self._refusal: asyncpg.PostgresError | None = None
        """Of those that wait where the server refuses a connection: who may try, how many, and its error."""
        self._plain_turn = anyio.Lock()
        """The same of a plain connection, however long."""
        self._returned = anyio.Event()
        self._plain_returned = anyio.Event()
        self._reminder = Reminder()
        self._hosts = Hosts()
        self._callers_patience = POOLED_CALLER_PATIENCE
        self._connections: WeakSet[OwnConnection] = WeakSet()
        self._everywhere: WeakSet[OwnConnection] = WeakSet()
        """Those of other event loops, too: leases are kept in threads of their own."""
        self._lock = threading.Lock()
        self._kept = Kept(self)
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop that its connections belong to."""

    def set_dsn(self, dsn: str | None) -> None:
        """Connect elsewhere from now on. Not while it is open. Raises ConfigurationError."""
        self._dsn = Dsn("") if dsn is None else read_dsn(dsn)
        self.dsn = dsn
        self.connect_timeout = self._given_timeout or self._dsn.connect_timeout or CONNECT_TIMEOUT
        self._given_settings = {
            **self._dsn.server_settings,
            **self._connect_options.get("server_settings", {}),
        }

    def check_loop(self) -> None:
        """Raise WrongEventLoopError in another event loop than the one in which this was opened."""
        if self._loop is not None and asyncio.get_running_loop() is not self._loop:
            raise WrongEventLoopError(
                "this PgQueue was opened in another event loop; call it there: from a plain handler by "
                "`anyio.from_thread.run(task.enqueue, ...)`, from another thread by "
                "`asyncio.run_coroutine_threadsafe`"
            )

    async def open(self) -> None:
        """Detect a pooler, and open the pool. Raises ConfigurationError, DatabaseUnavailableError."""
        began_at = time.monotonic()
        resolve_apart()
        self._loop = asyncio.get_running_loop()
        try:
            with anyio.fail_after(self.connect_timeout):
                probe = await self._connect(**self._plain_arguments())
                try:
                    # A pooler reports process ids of its own.
                    async with probe.transaction():
                        backend = await probe.fetchval("select pg_catalog.pg_backend_pid()")
                        self._settings = {**self._own_settings, **await session.read_meaning(probe)}
                    self.encoding = encoding_of(probe.get_settings().server_encoding)
                    self.is_pooled = self._dsn.is_pooled or backend != probe.get_server_pid()
                finally:
                    await probe.close()
                self._pool = await CallersPool(
                    min_size=1,
                    max_size=self._max_connections,
                    max_queries=POOL_QUERIES,
                    max_inactive_connection_lifetime=POOL_IDLE,
                    init=know_types,
                    reset=keep_session,
                    connect=self._connect_for_callers,
                    loop=self._loop,
                    record_class=asyncpg.Record,
                    **self._arguments(durable=True, command_timeout=CALLER_TIMEOUT),
                )
        except CONNECT_ERRORS as error:
            raise self.refusal(error, began_at) from error
        if self.encoding is not None:
            logger.warning(
                "the database has the encoding %s, not UTF8: text that it does not have is replaced in "
                "errors, and refused in tags, keys and names",
                self.encoding.name,
            )
        if self.is_pooled:
            logger.warning(
                "connected through a transaction-mode pooler: no LISTEN and no advisory locks; "
                "workers find jobs by polling, and each statement runs in its own transaction"
            )

    async def close(self) -> None:
        """Close all connections. Those that do not finish within CLOSE_WITHIN are dropped."""
        pools, self._pool, self._plain_pool = (self._pool, self._plain_pool), None, None
        for pool in pools:
            if pool is not None:
                await _close(pool)
        with anyio.move_on_after(CLOSE_WITHIN, shield=True):
            # A write in progress is allowed to finish, as it would be on a connection of the pool.
            await self._kept.wait_returned()
        await self._kept.close()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend a connection from the pool, set up for pgqueue's statements.

        Raises DatabaseUnavailableError if there is none within the connect timeout, or if it breaks, and
        MissingPrivilegeError where the role may not do what is done with it.
        """
        with self.translated():
            async with self.lend() as connection:
                yield connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise errors of pgqueue's own instead of the driver's: of lost connections, schemas, refusals."""
        began_at = time.monotonic()
        try:
            yield
        except PgQueueError:
            raise
        except TRANSLATED as error:
            if isinstance(error, ValueError):
                # A value that asyncpg cannot send. The connection is whole.
                raise
            seconds = time.monotonic() - began_at
            raise unavailable(error, seconds, may_have_happened=may_have_happened(error)) from error
        except asyncpg.PostgresError as error:
            if isinstance(error, asyncpg.InsufficientPrivilegeError) or is_of_a_value(error):
                # Migrations say more of the former; readers look for the row that the latter comes from.
                raise
            raise refused(error, time.monotonic() - began_at) from error

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Connection]:
        """Lend a connection as `acquire` does, for callers that try again when it breaks.

        Raises DatabaseUnavailableError if there is none, and one of CONNECTION_ERRORS if it breaks.
        """
        pool = self._pool
        if pool is None:
            raise NotOpenError("this PgQueue is not open: use it inside `async with pgq:`")
        self.check_loop()
        began_at = time.monotonic()
        try:
            connection = await self._acquire(pool, began_at)
        except CONNECT_ERRORS as error:
            raise self.refusal(error, began_at) from error
        try:
            async with self.in_session(connection):
                yield connection
        except asyncpg.InsufficientPrivilegeError as error:
            raise MissingPrivilegeError(str(error)) from error
        except PgQueueError:
            raise
        except UNSTORABLE as error:
            raise unstorable(error) from error
        except CONNECTION_ERRORS as error:
            if not isinstance(error, ValueError):
                # Its pool may have seen its end already, and taken it back.
                with suppress(asyncpg.InterfaceError):
                    connection.terminate()
            if self.is_pooled and isinstance(error, TimeoutError):
                # It may have been a statement that needs longer.
                self._callers_patience = min(2 * self._callers_patience, WORKER_TIMEOUT)
            if isinstance(error, LOST_SESSIONS):
                # Otherwise the next callers would find one lost connection each.
                await pool.expire_connections()
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._return(pool, connection)

    async def _acquire(self, pool: Pool, began_at: float) -> PoolConnectionProxy[asyncpg.Record]:
        """Return a connection of the pool. Where the server gives no other, wait for one that is returned."""
        if self._refusal is None:
            try:
                return await pool.acquire(timeout=self.connect_timeout)
            except asyncpg.PostgresError as error:
                if not pool.get_size():
                    raise
                self._refusal = error
        # In turn, those that come meanwhile, too. Who only slept and tried again came too late each time: one
        # of five waited for 3.6 s where what was served took 4 ms.
        self._waiting += 1
        try:
            with anyio.move_on_after(self.connect_timeout - (time.monotonic() - began_at)):
                async with self._turn:
                    return await self._await_returned(pool)
            assert self._refusal is not None
            raise self._refusal
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._refusal = None

    async def _await_returned(self, pool: Pool) -> PoolConnectionProxy[asyncpg.Record]:
        for pause in chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1])):
            self._returned = anyio.Event()
            try:
                return await pool.acquire(timeout=self.connect_timeout)
            except asyncpg.PostgresError as error:
                if not pool.get_size():
                    raise
                self._refusal = error
                if isinstance(error, asyncpg.TooManyConnectionsError):
                    make_room(self._plain_pool)
            with anyio.move_on_after(pause):
                await self._returned.wait()
        raise AssertionError("unreachable")

    async def _return(self, pool: Pool, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        try:
            await pool.release(connection, timeout=self.connect_timeout)
        except asyncio.CancelledError:
            if was_asked():
                raise
            # asyncpg does that in a task of its own, which code that cancels all tasks has hit. The pool has
            # its place back when the connection is gone; it may have been returned already.
            with suppress(asyncpg.InterfaceError):
                connection.terminate()
        finally:
            self._returned.set()

    async def repeat(self, step: Callable[[Connection], Awaitable[T]], *, is_asked: bool = True) -> T:
        """Call *step* with a connection, and again if there is none or it breaks: what may be done twice.

        *is_asked*: it is what the caller asks for, and not only what has to be done before. Raises
        DatabaseUnavailableError, after the connect timeout at the latest.
        """
        tries = Tries(self.connect_timeout)
        for pause in chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1])):
            try:
                async with self.lend() as connection:
                    return await step(connection)
            except (DatabaseUnavailableError, *TRANSLATED) as error:
                if isinstance(error, ValueError):
                    raise
                tries.fail(error, is_asked=is_asked)
                await anyio.sleep(pause)
            except asyncpg.PostgresError as error:
                raise refused(error, tries.seconds) from error
        raise AssertionError("unreachable")

    def writer(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a connection for one write: the one kept for writes, or one from the pool while that is lent.

        Taking a connection out of the pool and returning it costs a third of a single enqueue. Raises
        DatabaseUnavailableError, and the errors of the statement.
        """
        if self._pool is None or self.is_pooled or self._kept.is_lent:
            return self.lend()
        if asyncio.get_running_loop() is not self._loop:
            self.check_loop()
        return self._kept

    async def take_plain(self) -> PoolConnectionProxy[asyncpg.Record]:
        """Take a connection without pgqueue's settings, for a user's own statements.

        Return it with `give_plain_back`. There are at most `max_connections`; waits for a free one, however
        long the server is away or refuses another: that is no error of the job that asks.
        """
        if self._pool is None:
            raise NotOpenError("this PgQueue is not open: use it inside `async with pgq:`")
        self.check_loop()
        if self._plain_pool is None:
            # Opens no connection yet, because few programs need one.
            self._plain_pool = asyncpg.create_pool(
                min_size=0,
                max_size=self._max_connections,
                connect=self._connect,
                **self._user_arguments(),
            )
        await self._plain_pool
        try:
            return await self._plain_pool.acquire()
        except CONNECT_ERRORS as error:
            self._tell_refused(error)
        async with self._plain_turn:
            # One after the other: what is tried again and again must not be as many logins.
            for pause in chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1])):
                self._plain_returned = anyio.Event()
                try:
                    return await self._plain_pool.acquire()
                except CONNECT_ERRORS as error:
                    self._tell_refused(error)
                    if isinstance(error, asyncpg.TooManyConnectionsError):
                        make_room(self._pool)
                with anyio.move_on_after(pause):
                    await self._plain_returned.wait()
        raise AssertionError("unreachable")

    def _tell_refused(self, error: BaseException) -> None:
        if isinstance(error, asyncpg.ClientConfigurationError | UnicodeError):
            raise self.refusal(error, time.monotonic()) from error
        logger.log(
            self._reminder.level(),
            "no connection for ctx.transaction() (%s); its jobs wait for one",
            told(error),
        )

    async def note_session(self, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        """Have it known which session *connection* has for its transaction, where a pooler decides that."""
        if self.is_pooled:
            number = await connection.fetchval("select pg_catalog.pg_backend_pid()")
            connection.note_session(number)  # type: ignore[attr-defined]  # it is an OwnConnection's

    async def give_plain_back(self, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        """Return a connection taken with `take_plain`. Raises only when cancelled."""
        pool = self._plain_pool
        if pool is None:
            # The pool was closed meanwhile, and its connections with it.
            return
        if self.is_pooled:
            connection.note_session(None)  # type: ignore[attr-defined]  # as above
        try:
            with anyio.CancelScope(shield=True):
                await self._return(pool, connection)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError):
            logger.debug("a connection could not be returned to the pool, and was closed", exc_info=True)
        finally:
            self._plain_returned.set()

    async def connect_plain(self) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection without pgqueue's settings, for migrations. Raises DatabaseUnavailableError.

        Run statements in `plain_transaction`: the connection may lead through a pooler.
        """
        began_at = time.monotonic()
        resolve_apart()
        try:
            return await self._connect(**self._plain_arguments())
        except CONNECT_ERRORS as error:
            raise self.refusal(error, began_at) from error

    async def connect(
        self, *, durable: bool, command_timeout: float = WORKER_TIMEOUT
    ) -> asyncpg.Connection[asyncpg.Record]:
        """Open a dedicated connection. Unless *durable*, commits do not wait for the disk.

        Raises the errors of asyncpg that are about the connection, and DatabaseUnavailableError for others.
        """
        arguments = self._arguments(durable=durable, command_timeout=command_timeout)
        resolve_apart()
        began_at = time.monotonic()
        try:
            connection = await self._connect(**arguments)
        except CONNECT_ERRORS as error:
            if is_away(error):
                raise
            # Of a statement it would mean something else: a right that is missing, a value.
            raise unavailable(error, time.monotonic() - began_at) from error
        try:
            await know_types(connection)
        except BaseException:
            connection.terminate()
            raise
        self.connects += 1
        return connection

    @asynccontextmanager
    async def in_session(self, connection: Connection, *, durable: bool = True) -> AsyncIterator[None]:
        """Apply pgqueue's settings. A direct connection has had them since it was opened."""
        if not self.is_pooled:
            yield
            return
        async with connection.transaction():
            await connection.execute(session.begin_with(self._transaction_settings(durable=durable)))
            yield

    async def use_settings(self, connection: Connection) -> None:
        """Apply pgqueue's settings until the connection's transaction, which is a user's, ends."""
        await connection.execute(session.set_locally(self._settings))

    async def _connect(
        self,
        dsn: str | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # as asyncpg's pool passes it
        **arguments: Any,
    ) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection, to any host of the DSN. All of this process are opened here."""
        connection = await self._hosts.connect(dsn=dsn, timeout=timeout or self.connect_timeout, **arguments)
        if isinstance(connection, OwnConnection):
            if asyncio.get_running_loop() is self._loop:
                self._connections.add(connection)
            with self._lock:
                self._everywhere.add(connection)
        return connection

    async def _connect_for_callers(
        self, dsn: str | None = None, **arguments: Any
    ) -> asyncpg.Connection[asyncpg.Record]:
        if self.is_pooled:
            arguments["command_timeout"] = self._callers_patience
        return await self._connect(dsn, **arguments)

    @property
    def has_several_hosts(self) -> bool:
        """Whether the DSN leads to several servers, one of which takes writes. Known once open."""
        return self._hosts.are_several

    async def leave_old_primary(self) -> None:
        """Drop the connections to a server in whose place another one of the DSN was promoted."""
        with self._lock:
            there = [each for each in self._everywhere if not each.is_closed()]
        await self._hosts.look({each.place for each in there}, **self._plain_arguments())
        left = [each for each in there if self._hosts.is_old(each.place)]
        if left:
            logger.warning(
                "%s still takes writes, but another server was promoted in its place: left it, with %d "
                "connections; stop it, because programs that do not know both may still write there",
                ", ".join(sorted({str(each.place) for each in left})),
                len(left),
            )
        for connection in left:
            connection.terminate_anywhere()

    def connections_here(self) -> list[OwnConnection]:
        """Return the open connections that belong to the event loop in which this was opened."""
        return [each for each in self._connections if not each.is_closed()]

    def _transaction_settings(self, *, durable: bool) -> dict[str, str]:
        return self._settings if durable else {**self._settings, "synchronous_commit": "off"}

    def _user_arguments(self) -> dict[str, Any]:
        if self.is_pooled:
            return self._plain_arguments()
        settings = {"application_name": self.schema, **self._given_settings}
        if self._dsn.search_path is not None:
            settings.setdefault("search_path", self._dsn.search_path)
        return {**self._address(), "server_settings": settings}

    def _plain_arguments(self) -> dict[str, Any]:
        # Named statements would stay in a pooler's session and clash with those of the next process.
        return {**self._address(), "server_settings": self._given_settings, "statement_cache_size": 0}

    def _arguments(self, *, durable: bool, command_timeout: float) -> dict[str, Any]:
        if self.is_pooled:
            return {"command_timeout": command_timeout, **self._plain_arguments()}
        settings = {
            "application_name": self.schema,
            **self._given_settings,
            **session.of_session(self._transaction_settings(durable=durable)),
        }
        # Statements stay prepared, because there are few of them and all are hot.
        return {
            "command_timeout": command_timeout,
            **self._address(),
            "max_cached_statement_lifetime": 0,
            "server_settings": settings,
        }

    def _address(self) -> dict[str, Any]:
        return {
            "dsn": self._dsn.address,
            "connection_class": OwnConnection,
            **self._dsn.options,
            **self._connect_options,
        }

    def refusal(self, error: BaseException, since: float) -> PgQueueError:
        """Return the error to raise when *error* kept a connection from being opened, tried *since* then."""
        if isinstance(error, asyncpg.ClientConfigurationError | UnicodeError):
            return ConfigurationError(f"invalid DSN or connect option: {error}")
        if isinstance(error, PARAMETER_ERRORS) and (name := refused_parameter(str(error))):
            return ConfigurationError(
                f"invalid DSN or connect option: the server refuses parameter {name!r}; remove or correct it"
            )
        return unavailable(error, time.monotonic() - since)


async def _close(pool: Pool) -> None:
    with anyio.move_on_after(CLOSE_WITHIN, shield=True):
        await pool.close()
        return
    pool.terminate()
