"""Connections that cannot be used like this: each says what to do, and nothing is written."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
import sqlalchemy
from kit.drivers import KINDS, url_for
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from pgqueue import PgQueue, PgQueueError, UnknownConnectionError, UnusableConnectionError
from pgqueue.blocking import BlockingPgQueue

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P1.3")

COUNT = "select count(*) from pgqueue.job"


async def refused(pgq: PgQueue, given: Any, **options: Any) -> UnusableConnectionError:
    """Return how every method refuses a connection."""
    work = pgq.signature("work")
    calls = [
        pgq.enqueue(work, connection=given, **options),
        pgq.enqueue_many([work, work], connection=given, **options),
        pgq.enqueue_by_name("work", connection=given, **options),
        pgq.mark_processed("source", "1", connection=given, **options),
    ]
    for call in calls:
        with pytest.raises(UnusableConnectionError) as refusal:
            await call
    assert isinstance(refusal.value, PgQueueError)
    return refusal.value


def refused_here(queue: BlockingPgQueue, given: Any) -> UnusableConnectionError:
    """Return how a synchronous interface refuses a connection."""
    with pytest.raises(UnusableConnectionError) as refusal:
        queue.enqueue(queue.behind.signature("work"), connection=given)
    return refusal.value


@pytest.fixture
def queue(dsn: str) -> Iterator[BlockingPgQueue]:
    with BlockingPgQueue(PgQueue(dsn)) as queue:
        yield queue


async def test_what_is_no_connection_for_asyncio_is_a_type_error_that_says_what_is_taken(
    pgq: PgQueue, db: Connection, dsn: str
) -> None:
    engine = create_async_engine(url_for(dsn, "asyncpg"))
    async with asyncpg.create_pool(dsn, min_size=0) as pool:
        for given in (object(), "dsn", dsn, sqlite3.Connection, pool, engine, engine.sync_engine):
            error = await refused(pgq, given)
            assert isinstance(error, UnknownConnectionError)
            assert isinstance(error, TypeError)
            for taken in ("asyncpg", "psycopg 3", "SQLAlchemy", "AsyncSession", "got "):
                assert taken in str(error)
    blocking = sqlalchemy.create_engine(url_for(dsn, "psycopg"))
    with psycopg.connect(dsn) as connection, Session(blocking) as session:
        for given in (connection, session):
            assert "is synchronous and works with pgqueue.blocking only" in str(await refused(pgq, given))
    blocking.dispose()
    await engine.dispose()
    assert await db.fetchval(COUNT) == 0


def test_what_is_no_synchronous_connection_is_a_type_error_that_says_what_is_taken(
    queue: BlockingPgQueue, dsn: str
) -> None:
    with closing(sqlite3.connect(":memory:")) as memory:
        for given in (object(), memory):
            error = refused_here(queue, given)
            assert isinstance(error, TypeError)
            assert "takes a Connection of psycopg 3, a Connection or Session of SQLAlchemy" in str(error)
            assert "or Django's connection" in str(error)
    sqlite = sqlalchemy.create_engine("sqlite://")
    with Session(sqlite) as session, sqlite.connect() as connection:
        for other in (session, connection):
            error = refused_here(queue, other)
            assert isinstance(error, TypeError)
            assert "sqlite+pysqlite" in str(error)
            assert "postgresql+psycopg" in str(error)
    sqlite.dispose()

    async def awaited() -> None:
        engine = create_async_engine(url_for(dsn, "asyncpg"))
        plain = await asyncpg.connect(dsn)
        async with await psycopg.AsyncConnection.connect(dsn) as connection, AsyncSession(engine) as session:
            for given in (plain, connection, session):
                assert "takes synchronous connections only" in str(refused_here(queue, given))
        await plain.close()
        await engine.dispose()

    asyncio.run(awaited())


async def test_a_closed_connection_is_refused(pgq: PgQueue, dsn: str) -> None:
    closed = await asyncpg.connect(dsn)
    await closed.close()
    assert "is closed; pass an open one" in str(await refused(pgq, closed))

    async with asyncpg.create_pool(dsn, min_size=0) as pool:
        async with pool.acquire() as lent:
            pass
        assert "was returned to its pool" in str(await refused(pgq, lent))

    async with await psycopg.AsyncConnection.connect(dsn) as gone:
        pass
    assert "is closed" in str(await refused(pgq, gone))

    engine = create_async_engine(url_for(dsn, "asyncpg"))
    async with engine.connect() as left:
        pass
    for given in (left, engine.connect()):
        assert "is not open" in str(await refused(pgq, given))
    await engine.dispose()


def test_a_closed_synchronous_connection_is_refused(queue: BlockingPgQueue, dsn: str) -> None:
    with psycopg.connect(dsn) as closed:
        pass
    engine = sqlalchemy.create_engine(url_for(dsn, "psycopg"))
    with engine.connect() as left:
        pass
    assert "is closed" in str(refused_here(queue, closed))
    assert "is not open" in str(refused_here(queue, left))
    engine.dispose()


@contextmanager
def another_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_a_connection_of_another_event_loop_is_refused(pgq: PgQueue, dsn: str) -> None:
    with another_loop() as loop:

        async def elsewhere(coroutine: Any) -> Any:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))

        foreign = await elsewhere(asyncpg.connect(dsn))
        assert "belongs to another event loop" in str(await refused(pgq, foreign))
        await elsewhere(foreign.close())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_migrated", [True, False])
async def test_a_connection_to_another_database_is_refused_and_its_transaction_is_whole(
    pgq: PgQueue, dsn: str, databases: Any, kind: str, is_migrated: bool
) -> None:
    other = databases.clone() if is_migrated else databases.make_empty()
    async with KINDS[kind](pgq, other) as theirs, theirs.transaction():
        with pytest.raises(UnusableConnectionError, match="not the PgQueue's") as refusal:
            await theirs.call("enqueue", pgq.signature("work"))
        await theirs.execute("create table public.orders (id integer)")
    assert urlsplit(other).path[1:] in str(refusal.value)
    assert urlsplit(dsn).path[1:] in str(refusal.value)
    plain = await asyncpg.connect(other)
    assert await plain.fetchval("select count(*) from public.orders") == 0
    await plain.close()
    databases.drop(other)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_session_of_sqlalchemy_in_autocommit_is_refused_unless_that_is_said(
    pgq: PgQueue, db: Connection, dsn: str, driver: str
) -> None:
    engine = create_async_engine(url_for(dsn, driver), isolation_level="AUTOCOMMIT")
    per_connection = create_async_engine(url_for(dsn, driver)).execution_options(isolation_level="AUTOCOMMIT")
    work, written = pgq.signature("work"), 0
    for each in (engine, per_connection):
        async with each.connect() as connection, AsyncSession(each) as session:
            for given in (connection, session):
                for _ in range(2):
                    # Before SQLAlchemy has begun what it calls a transaction there, and in it.
                    assert "autocommit=True" in str(await refused(pgq, given))
                    await given.execute(sqlalchemy.text("select 1"))
                await pgq.enqueue(work, connection=given, autocommit=True)
                written += 1
                assert await db.fetchval(COUNT) == written
        await each.dispose()


async def test_a_block_of_sqlalchemy_commits_and_rolls_back_what_was_written_in_it(
    pgq: PgQueue, db: Connection, dsn: str
) -> None:
    engine = create_async_engine(url_for(dsn, "asyncpg"))
    for outcome, count in (("rolled back", 0), ("committed", 2)):
        async with engine.connect() as connection, connection.begin() as block:
            await pgq.enqueue(pgq.signature("work"), connection=connection)
            await (block.rollback() if outcome == "rolled back" else block.commit())
        async with AsyncSession(engine) as session, session.begin() as block:
            await pgq.enqueue(pgq.signature("work"), connection=session)
            if outcome == "rolled back":
                await block.rollback()
        assert await db.fetchval(COUNT) == count
    await engine.dispose()


def test_an_interrupted_call_leaves_the_transaction_whole(queue: BlockingPgQueue, dsn: str) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    work = queue.behind.signature("work")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with psycopg.connect(dsn) as connection, psycopg.connect(dsn) as holder:
            queue.enqueue(work, connection=connection)
            connection.rollback()
            holder.execute("lock table pgqueue.job in share row exclusive mode")
            connection.execute("create table orders (id integer)")
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                queue.enqueue(work, connection=connection)
            holder.rollback()
            queue.enqueue(work, connection=connection)
            connection.commit()
            assert holder.execute(COUNT).fetchone() == (1,)
            assert holder.execute("select count(*) from orders").fetchone() == (0,)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert queue.enqueue(work).created
