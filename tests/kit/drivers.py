"""Connections of every driver and library that `connection=` takes, all to be used alike."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

import asyncpg
import psycopg
import sqlalchemy
from psycopg.adapt import Dumper, Loader
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from pgqueue import PgQueue
from pgqueue.blocking import BlockingPgQueue

T = TypeVar("T")


class RolledBackError(Exception):
    """Ends a block without a commit."""


class Theirs(ABC):
    """A user's connection, and the interface that it is passed to."""

    connection: Any

    @abstractmethod
    async def execute(self, sql: str) -> None:
        """Run a statement of the user's."""

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Commit at the end of the block; roll back if it raises."""

    @abstractmethod
    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Roll back to here if the block raises."""

    @abstractmethod
    async def call(self, name: str, *args: Any, **options: Any) -> Any:
        """Call a method of the interface with this connection."""


class Awaited(Theirs):
    """One for asyncio."""

    def __init__(self, pgq: PgQueue, connection: Any) -> None:
        self.pgq = pgq
        self.connection = connection

    async def call(self, name: str, *args: Any, **options: Any) -> Any:
        return await getattr(self.pgq, name)(*args, connection=self.connection, **options)


class Asyncpg(Awaited):
    async def execute(self, sql: str) -> None:
        await self.connection.execute(sql)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self.connection.transaction():
            yield

    savepoint = transaction


class Committed(Awaited):
    """One that begins a transaction by itself, with its first statement."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            await self.connection.rollback()
            raise
        await self.connection.commit()


class Psycopg(Committed):
    async def execute(self, sql: str) -> None:
        await psycopg.AsyncCursor(self.connection).execute(sql)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        async with self.connection.transaction():
            yield


class PsycopgBlocks(Psycopg):
    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self.connection.transaction():
            yield


class Alchemy(Committed):
    """A connection or a session."""

    async def execute(self, sql: str) -> None:
        await self.connection.execute(sqlalchemy.text(sql))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        async with self.connection.begin_nested():
            yield


class Blocking(Theirs):
    """A synchronous one, used in a thread of its own."""

    def __init__(self, queue: BlockingPgQueue, connection: Any, thread: ThreadPoolExecutor) -> None:
        self.queue = queue
        self.connection = connection
        self.thread = thread

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, function, *args)

    async def call(self, name: str, *args: Any, **options: Any) -> Any:
        method = getattr(self.queue, name)
        return await self.run(lambda: method(*args, connection=self.connection, **options))

    async def execute(self, sql: str) -> None:
        is_alchemy = not isinstance(self.connection, psycopg.Connection)
        await self.run(self.connection.execute, sqlalchemy.text(sql) if is_alchemy else sql)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            await self.run(self.connection.rollback)
            raise
        await self.run(self.connection.commit)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        is_alchemy = not isinstance(self.connection, psycopg.Connection)
        block = self.connection.begin_nested if is_alchemy else self.connection.transaction
        async with self._in(block):
            yield

    @asynccontextmanager
    async def _in(self, block: Callable[[], Any]) -> AsyncIterator[None]:
        within = await self.run(block)
        await self.run(within.__enter__)
        try:
            yield
        except BaseException as error:
            await self.run(within.__exit__, type(error), error, None)
            raise
        await self.run(within.__exit__, None, None, None)


class BlockingBlocks(Blocking):
    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._in(self.connection.transaction):
            yield


class _Shouting(Dumper):
    def dump(self, obj: Any) -> bytes:
        return b"nonsense"


class _Blind(Loader):
    def load(self, data: Any) -> str:
        return "nonsense"


async def _psycopg(dsn: str, **options: Any) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(dsn, **options)


@asynccontextmanager
async def _asyncpg(pgq: PgQueue, dsn: str) -> AsyncIterator[Theirs]:
    connection = await asyncpg.connect(dsn)
    yield Asyncpg(pgq, connection)
    await connection.close()


@asynccontextmanager
async def _asyncpg_lent(pgq: PgQueue, dsn: str) -> AsyncIterator[Theirs]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        yield Asyncpg(pgq, connection)


@asynccontextmanager
async def _psycopg_plain(pgq: PgQueue, dsn: str) -> AsyncIterator[Theirs]:
    async with await _psycopg(dsn) as connection:
        yield Psycopg(pgq, connection)


@asynccontextmanager
async def _psycopg_autocommit(pgq: PgQueue, dsn: str) -> AsyncIterator[Theirs]:
    async with await _psycopg(dsn, autocommit=True) as connection:
        yield PsycopgBlocks(pgq, connection)


@asynccontextmanager
async def _psycopg_pipeline(pgq: PgQueue, dsn: str) -> AsyncIterator[Theirs]:
    async with await _psycopg(dsn) as connection, connection.pipeline():
        yield Psycopg(pgq, connection)


@asynccontextmanager
async def _psycopg_odd(pgq: PgQueue, dsn: str) -> AsyncIterator[Theirs]:
    """A connection whose every habit is another one than pgqueue's."""
    options: Any = {
        "prepare_threshold": 0,
        "cursor_factory": psycopg.AsyncClientCursor,
        "row_factory": dict_row,
    }
    async with await _psycopg(dsn, **options) as connection:
        for kind in (str, int, bool, list, type(None)):
            connection.adapters.register_dumper(kind, _Shouting)
        for name in ("text", "json", "uuid", "bool", "int4", 0):
            connection.adapters.register_loader(name, _Blind)
        for setting in ("search_path = ''", "datestyle = 'German'", "client_encoding = 'LATIN1'"):
            await psycopg.AsyncCursor(connection).execute(f"set {setting}")
        await connection.commit()
        yield Psycopg(pgq, connection)


def url_for(dsn: str, driver: str) -> str:
    """Return *dsn* as SQLAlchemy spells it."""
    return dsn.replace("postgresql://", f"postgresql+{driver}://")


def _alchemy(driver: str, take: Callable[[Any], Any]) -> Any:
    @asynccontextmanager
    async def make(pgq: PgQueue, dsn: str) -> AsyncIterator[Theirs]:
        engine = create_async_engine(url_for(dsn, driver))
        async with take(engine) as connection:
            yield Alchemy(pgq, connection)
        await engine.dispose()

    return make


@asynccontextmanager
async def _scoped(engine: Any) -> AsyncIterator[Any]:
    make = sqlalchemy.ext.asyncio.async_sessionmaker(engine)
    session = async_scoped_session(make, scopefunc=asyncio.current_task)
    yield session
    await session.remove()


def _blocking(kind: type[Blocking], connect: Callable[[str], Any]) -> Any:
    @asynccontextmanager
    async def make(pgq: PgQueue, dsn: str) -> AsyncIterator[Theirs]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            queue = BlockingPgQueue(PgQueue(pgq.dsn))
            await loop.run_in_executor(thread, queue.__enter__)
            block = connect(dsn)
            connection = await loop.run_in_executor(thread, block.__enter__)
            try:
                yield kind(queue, connection, thread)
            finally:
                await loop.run_in_executor(thread, block.__exit__, None, None, None)
                await loop.run_in_executor(thread, queue.__exit__, None, None, None)

    return make


@contextmanager
def _sync_pipeline(dsn: str) -> Iterator[Any]:
    with psycopg.connect(dsn) as connection, connection.pipeline():
        yield connection


def _sync_alchemy(take: Callable[[Any], Any]) -> Callable[[str], Any]:
    @contextmanager
    def connect(dsn: str) -> Iterator[Any]:
        engine = sqlalchemy.create_engine(url_for(dsn, "psycopg"))
        with take(engine) as connection:
            yield connection
        engine.dispose()

    return connect


@contextmanager
def _sync_scoped(engine: Any) -> Iterator[Any]:
    session = scoped_session(sessionmaker(engine))
    yield session
    session.remove()


KINDS: dict[str, Callable[[PgQueue, str], AbstractAsyncContextManager[Theirs]]] = {
    "asyncpg": _asyncpg,
    "asyncpg, of a pool": _asyncpg_lent,
    "psycopg": _psycopg_plain,
    "psycopg, autocommit": _psycopg_autocommit,
    "psycopg, pipeline": _psycopg_pipeline,
    "psycopg, odd": _psycopg_odd,
    "sqlalchemy, asyncpg": _alchemy("asyncpg", AsyncEngine.connect),
    "sqlalchemy, psycopg": _alchemy("psycopg", AsyncEngine.connect),
    "session, asyncpg": _alchemy("asyncpg", AsyncSession),
    "session, psycopg": _alchemy("psycopg", AsyncSession),
    "scoped session, asyncpg": _alchemy("asyncpg", _scoped),
    "blocking psycopg": _blocking(Blocking, psycopg.connect),
    "blocking psycopg, autocommit": _blocking(BlockingBlocks, partial(psycopg.connect, autocommit=True)),
    "blocking psycopg, pipeline": _blocking(Blocking, _sync_pipeline),
    "blocking sqlalchemy": _blocking(Blocking, _sync_alchemy(sqlalchemy.Engine.connect)),
    "blocking session": _blocking(Blocking, _sync_alchemy(Session)),
    "blocking scoped session": _blocking(Blocking, _sync_alchemy(_sync_scoped)),
}
"""How to make each, by its name."""

BEGUN_BY_BLOCKS = {"asyncpg", "asyncpg, of a pool", "psycopg, autocommit", "blocking psycopg, autocommit"}
"""Those that have no transaction open outside their blocks; in the others a statement begins one."""
