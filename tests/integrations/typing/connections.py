"""What `connection=` takes, for a type checker."""

from __future__ import annotations

from typing import Any, assert_type

import asyncpg
import psycopg
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, scoped_session

from pgqueue import JobHandle, PgQueue, chain
from pgqueue.blocking import BlockingJobHandle, BlockingPgQueue, BlockingWorkflowHandle

pgq = PgQueue("postgresql://localhost/app")


@pgq.task
async def work(number: int) -> str:
    return str(number)


async def awaited(
    plain: asyncpg.Connection[asyncpg.Record],
    connection: psycopg.AsyncConnection[dict[str, Any]],
    alchemy: AsyncConnection,
    session: AsyncSession,
) -> None:
    assert_type(await work.options(connection=plain).enqueue(1), JobHandle[str])
    await work.options(connection=connection, autocommit=True).enqueue(1)
    await pgq.enqueue_many([work.s(1)], connection=alchemy)
    await chain(work.s(1)).enqueue(connection=session)
    await pgq.mark_processed("source", "1", connection=session)


def blocking(
    queue: BlockingPgQueue,
    connection: psycopg.Connection[tuple[Any, ...]],
    alchemy: sqlalchemy.Connection,
    session: Session,
    scoped: scoped_session[Session],
) -> None:
    assert_type(queue.enqueue(work.s(1), connection=connection), BlockingJobHandle[str])
    assert_type(queue.enqueue(chain(work.s(1)), connection=session), BlockingWorkflowHandle[str])
    queue.enqueue_many([work.s(1)], connection=alchemy, autocommit=True)
    queue.signal("id", "event", connection=scoped)


async def mistaken(
    queue: BlockingPgQueue,
    connection: psycopg.Connection[Any],
    session: Session,
    other: psycopg.AsyncConnection[Any],
) -> None:
    work.options(connection=connection)  # type: ignore[arg-type]  # it is synchronous
    await pgq.enqueue(work.s(1), connection=session)  # type: ignore[arg-type]  # it is synchronous
    await pgq.enqueue(work.s(1), connection="dsn")  # type: ignore[arg-type]  # it is no connection
    queue.enqueue_many([work.s(1)], connection=other)  # type: ignore[arg-type]  # it is for asyncio
