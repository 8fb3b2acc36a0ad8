"""Connections to the database: one pool for callers, and one link for each loop of a worker.

Detects poolers in transaction mode. Behind them each transaction may get another server session, so session
settings, prepared statements, LISTEN and advisory locks do not work, and pgqueue does without them.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import anyio
import asyncpg

from pgqueue.database.connection import OwnConnection
from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.database.times import read_far_times
from pgqueue.errors import ConfigurationError, DatabaseUnavailableError, NotOpenError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from pgqueue.database.connection import Connection

    Pool = asyncpg.Pool[asyncpg.Record]

logger = logging.getLogger("pgqueue.database")


CALLER_TIMEOUT: Final = 15.0
"""Seconds without an answer after which the connection of a caller's statement counts as lost."""
WORKER_TIMEOUT: Final = 60.0
"""The same for a worker's statement, which no caller waits for and which may move a thousand jobs."""

CLOSE_WITHIN: Final = 1.0
"""Seconds that a connection in use has to finish before it is closed."""


# The hot statements reach their tables by index, whatever the statistics say. The planner only chooses how to
# join sets of the size of a batch, and a hash join is never far from the best choice there.
_PLANNER: Final = {
    "enable_seqscan": "off",
    "enable_nestloop": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}


class Database:
    """One database, as one process sees it."""

    def __init__(
        self,
        dsn: str,
        *,
        schema: str,
        max_connections: int,
        connect_timeout: float,
        force_generic_plans: bool,
        connect_options: dict[str, Any],
    ) -> None:
        self.dsn = dsn
        self.schema = schema
        self.is_pooled = False
        """Whether the connection leads through a transaction-mode pooler; known once open."""
        self._max_connections = max_connections
        self.connect_timeout = connect_timeout
        self._connect_options = connect_options
        self._settings = {**_PLANNER, f"{schema}.writer": "on"}
        if force_generic_plans:
            self._settings["plan_cache_mode"] = "force_generic_plan"
        self._pool: Pool | None = None
        self._plain_pool: Pool | None = None
        self._kept = _Kept(self)

    async def open(self) -> None:
        """Detect a pooler, and open the pool. Raises ConfigurationError, DatabaseUnavailableError."""
        try:
            with anyio.fail_after(self.connect_timeout):
                probe = await asyncpg.connect(**self._plain_arguments())
                try:
                    # A pooler reports process ids of its own.
                    async with probe.transaction():
                        backend = await probe.fetchval("select pg_backend_pid()")
                    self.is_pooled = backend != probe.get_server_pid()
                finally:
                    await probe.close()
                self._pool = await asyncpg.create_pool(
                    min_size=1,
                    max_size=self._max_connections,
                    init=read_far_times,
                    reset=_keep_session,
                    **self._arguments(durable=True, command_timeout=CALLER_TIMEOUT),
                )
        except asyncpg.ClientConfigurationError as error:
            raise ConfigurationError(f"invalid DSN or connect option: {error}") from error
        except CONNECTION_ERRORS as error:
            raise self.unavailable(error) from error
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

        Raises DatabaseUnavailableError if there is none within the connect timeout.
        """
        if self._pool is None:
            raise NotOpenError("this PgQueue is not open: use it inside `async with pgq:`")
        try:
            connection = await self._pool.acquire(timeout=self.connect_timeout)
        except CONNECTION_ERRORS as error:
            raise self.unavailable(error) from error
        try:
            async with self.in_session(connection):
                yield connection
        finally:
            with anyio.CancelScope(shield=True):
                await self._pool.release(connection, timeout=self.connect_timeout)

    def writer(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a connection for one write: the one kept for writes, or one from the pool while that is lent.

        Taking a connection out of the pool and returning it costs a third of a single enqueue. Raises
        DatabaseUnavailableError, and the errors of the statement.
        """
        if self._pool is None or self.is_pooled or self._kept.is_lent:
            return self.acquire()
        return self._kept

    async def take_plain(self) -> PoolConnectionProxy[asyncpg.Record]:
        """Take a connection without pgqueue's settings, for a user's own statements.

        Return it with `give_plain_back`. There are at most `max_connections`; waits for a free one. Raises
        DatabaseUnavailableError.
        """
        if self._pool is None:
            raise NotOpenError("this PgQueue is not open: use it inside `async with pgq:`")
        if self._plain_pool is None:
            # Opens no connection yet, because few programs need one.
            self._plain_pool = asyncpg.create_pool(
                min_size=0,
                max_size=self._max_connections,
                timeout=self.connect_timeout,
                **self._user_arguments(),
            )
        try:
            await self._plain_pool
            return await self._plain_pool.acquire()
        except CONNECTION_ERRORS as error:
            raise self.unavailable(error) from error

    async def give_plain_back(self, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        """Return a connection taken with `take_plain`. Raises only when cancelled."""
        pool = self._plain_pool
        if pool is None:
            # The pool was closed meanwhile, and its connections with it.
            return
        try:
            with anyio.CancelScope(shield=True):
                await pool.release(connection, timeout=self.connect_timeout)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError):
            logger.debug("a connection could not be returned to the pool, and was closed", exc_info=True)

    async def connect_plain(self) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection without pgqueue's settings, for migrations. Raises DatabaseUnavailableError.

        Run statements in transactions: the connection may lead through a pooler.
        """
        try:
            return await asyncpg.connect(timeout=self.connect_timeout, **self._plain_arguments())
        except asyncpg.ClientConfigurationError as error:
            raise ConfigurationError(f"invalid DSN or connect option: {error}") from error
        except CONNECTION_ERRORS as error:
            raise self.unavailable(error) from error

    async def connect(
        self, *, durable: bool, command_timeout: float = WORKER_TIMEOUT
    ) -> asyncpg.Connection[asyncpg.Record]:
        """Open a dedicated connection. Unless *durable*, commits do not wait for the disk.

        Raises the errors of asyncpg.
        """
        arguments = self._arguments(durable=durable, command_timeout=command_timeout)
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            timeout=self.connect_timeout, **arguments
        )
        try:
            await read_far_times(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    @asynccontextmanager
    async def in_session(self, connection: Connection, *, durable: bool = True) -> AsyncIterator[None]:
        """Apply pgqueue's settings. A direct connection has had them since it was opened."""
        if not self.is_pooled:
            yield
            return
        async with connection.transaction():
            await self.use_settings(connection, durable=durable)
            yield

    async def use_settings(self, connection: Connection, *, durable: bool = True) -> None:
        """Apply pgqueue's settings until the connection's transaction ends."""
        settings = self._settings if durable else {**self._settings, "synchronous_commit": "off"}
        await connection.execute(
            ";".join(f"set local {name} = '{value}'" for name, value in settings.items())
        )

    def _user_arguments(self) -> dict[str, Any]:
        if self.is_pooled:
            return self._plain_arguments()
        settings = {"application_name": self.schema, **self._connect_options.get("server_settings", {})}
        return {
            "dsn": self.dsn,
            "connection_class": OwnConnection,
            **self._connect_options,
            "server_settings": settings,
        }

    def _plain_arguments(self) -> dict[str, Any]:
        # Named statements would stay in a pooler's session and clash with those of the next process.
        return {
            "dsn": self.dsn,
            "connection_class": OwnConnection,
            **self._connect_options,
            "statement_cache_size": 0,
        }

    def _arguments(self, *, durable: bool, command_timeout: float) -> dict[str, Any]:
        options = {
            "command_timeout": command_timeout,
            "connection_class": OwnConnection,
            **self._connect_options,
        }
        if self.is_pooled:
            return {"dsn": self.dsn, **options, "statement_cache_size": 0}
        settings = {
            "application_name": self.schema,
            **options.pop("server_settings", {}),
            **self._settings,
        }
        if not durable:
            settings["synchronous_commit"] = "off"
        # Statements stay prepared, because there are few of them and all are hot.
        return {"dsn": self.dsn, **options, "max_cached_statement_lifetime": 0, "server_settings": settings}

    def unavailable(self, error: BaseException) -> DatabaseUnavailableError:
        """Return the error to raise when *error* made the database unavailable."""
        return DatabaseUnavailableError(
            f"the database did not answer within {self.connect_timeout:g} s "
            f"({type(error).__name__}: {error}); check that it is running and that the DSN is correct"
        )


class Link:
    """A connection that one loop owns. It is opened at first use, and again after it broke."""

    def __init__(self, database: Database, *, durable: bool, command_timeout: float = WORKER_TIMEOUT) -> None:
        self._database = database
        self._durable = durable
        self._command_timeout = command_timeout
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def open(self) -> asyncpg.Connection[asyncpg.Record]:
        """Return the connection, opening it if necessary. Raises one of CONNECTION_ERRORS."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.connect(
                durable=self._durable, command_timeout=self._command_timeout
            )
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
        except CONNECTION_ERRORS:
            self.drop()
            raise

    def drop(self) -> None:
        """Drop the connection, because after one of CONNECTION_ERRORS its session cannot be trusted."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            with anyio.move_on_after(1) as scope:
                await connection.close()
            if scope.cancelled_caught:
                connection.terminate()


class _Kept:
    """The connection that is kept for writes, lent to one write at a time.

    It is a class because a generator with `contextlib` would add a dozen calls to a single enqueue.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._link = Link(database, durable=True, command_timeout=CALLER_TIMEOUT)
        self._returned: anyio.Event | None = None
        self.is_lent = False

    async def __aenter__(self) -> asyncpg.Connection[asyncpg.Record]:
        self.is_lent = True
        try:
            return await self._link.open()
        except BaseException as error:
            self._take_back()
            if isinstance(error, CONNECTION_ERRORS):
                raise self._database.unavailable(error) from error
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, CONNECTION_ERRORS):
            self._link.drop()
        self._take_back()

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


async def _close(pool: Pool) -> None:
    with anyio.move_on_after(CLOSE_WITHIN, shield=True):
        await pool.close()
        return
    pool.terminate()


async def _keep_session(_: object) -> None:
    # asyncpg's own reset costs a round trip each time a connection is returned, to undo settings that
    # pgqueue's statements never make.
    return None
