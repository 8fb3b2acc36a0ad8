"""What a type checker must accept, and refuse, of a program like the README's. Checked, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, assert_type
from uuid import UUID

import asyncpg

from pgqueue import Depends, Job, JobContext, JobHandle, JobStatus, PgQueue, Signature, Task

pgq = PgQueue("postgresql://localhost/app", timeout=60)
pgq.queue("mail", priority=5)


@pgq.task(queue="mail", max_retries=3, timeout=30)
async def send_email(to: str, subject: str, body: str = "") -> str:
    return f"{to}: {subject} {len(body)}"


@pgq.task(retry_backoff=True, expires=timedelta(hours=1))
async def resize(ctx: JobContext, image: UUID, *, width: int) -> float:
    return ctx.attempt * width / len(image.bytes)


@pgq.task(name="counting")
def count(path: str) -> int:
    return len(path)


@pgq.task()
def count_with_context(ctx: JobContext, path: str) -> int:
    return len(path) * ctx.attempt


class Session:
    user: str = "ada"


class State:
    sessions: int = 7


async def open_session(ctx: JobContext[State]) -> AsyncIterator[Session]:
    assert_type(ctx.state.sessions, int)
    yield Session()


@pgq.lifespan
async def lifespan() -> AsyncIterator[State]:
    yield State()


@pgq.task
async def greet(ctx: JobContext[State], greeting: str, session: Session = Depends(open_session)) -> str:
    assert_type(ctx.state, State)
    assert_type(ctx.is_last_attempt, bool)
    assert_type(ctx.tags, tuple[str, ...])
    ctx.logger.info("greeting %s", session.user)
    return f"{greeting} {session.user}"


@pgq.task
def greet_nobody(session: str = Depends(open_session)) -> None:  # type: ignore[assignment]  # it is a Session
    """Refused by the type checker."""


async def charge(card: str, *, amount: int) -> str:
    return f"{card}: {amount}"


@pgq.task()
async def pay(ctx: JobContext, card: str) -> str:
    ctx.progress(1, 2, {"card": card})
    assert_type(ctx.idempotency_key_for("charge"), str)
    receipt = await ctx.step("charge", charge, card, amount=5)
    assert_type(receipt, str)
    assert_type(await ctx.step("count", len, card), int)
    async with ctx.transaction() as connection:
        await connection.execute("select 1")
        await send_email.options(connection=connection).enqueue("user@example.com", "Paid")
    await ctx.step("charge", charge, card, amount="5")  # type: ignore[arg-type]  # an amount is a number
    await ctx.step("charge", charge)  # type: ignore[call-overload]  # no card
    ctx.progress("1")  # type: ignore[arg-type]
    return receipt


async def accepted(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    assert_type(await send_email.enqueue("user@example.com", "Welcome!"), JobHandle[str])
    assert_type(await send_email.enqueue("user@example.com", subject="Hi", body="!"), JobHandle[str])
    assert_type(await (await send_email.enqueue("user@example.com", "Hi")).result(timeout=10), str)
    assert_type(await greet.enqueue("hello"), JobHandle[str])
    assert_type(await resize.enqueue(UUID(int=1), width=100), JobHandle[float])
    assert_type(await count.enqueue("x"), JobHandle[int])
    assert_type(await count_with_context.enqueue("x"), JobHandle[int])
    assert_type(send_email.s("user@example.com", "Hi"), Signature[str])
    assert_type(await pgq.enqueue(count.s("x")), JobHandle[int])
    assert_type(await pgq.enqueue_many([count.s("x"), send_email.s("a", "b")]), list[JobHandle[object]])
    assert_type(await pgq.enqueue_many(count.s(path) for path in "ab"), list[JobHandle[int]])
    assert_type(count.handle("0198c0de-0000-7000-8000-000000000000"), JobHandle[int])

    # A direct call keeps the type of the handler's.
    assert_type(count("x"), int)
    assert_type(await send_email("user@example.com", "Hi"), str)
    assert_type(count.options(priority=1)("x"), int)

    urgent = send_email.options(priority=10, delay=5, key="k", connection=connection)
    assert_type(await urgent.enqueue("user@example.com", "Hi"), JobHandle[str])
    assert_type(await pgq.enqueue_by_name("other", 1, options={"queue": "mail"}), JobHandle[Any])

    job = await count.enqueue("x")
    assert_type(job.id, UUID)
    assert_type(await job.status(), JobStatus)
    assert_type(await job.refresh(), Job)
    assert_type(await job.cancel(), bool)
    async with pgq.worker(queues=["mail"], concurrency=50):
        pass


async def refused() -> None:
    await send_email.enqueue("user@example.com")  # type: ignore[call-arg]  # no subject
    await send_email.enqueue("user@example.com", 5)  # type: ignore[arg-type]  # a subject is text
    await send_email.enqueue("a", "b", "c", "d")  # type: ignore[call-arg]  # one too many
    await send_email.enqueue("a", "b", cc="c")  # type: ignore[call-arg]  # no such parameter
    send_email.s(1, "b")  # type: ignore[call-overload]  # a signature is checked as a call is
    await resize.enqueue(UUID(int=1), 100)  # type: ignore[call-arg]  # width has a name
    await resize.enqueue("1", width=100)  # type: ignore[arg-type]  # the context is no part of a call
    await count_with_context.enqueue(5)  # type: ignore[arg-type]
    send_email.options(prioritty=10)  # type: ignore[call-arg]  # no such option
    send_email.options(priority="high")  # type: ignore[arg-type]
    send_email.options(retry_jitter="some")  # type: ignore[arg-type]
    _: JobHandle[int] = await send_email.enqueue("a", "b")  # type: ignore[assignment]


def declared(task: Task[[str], int]) -> None:
    assert_type(task.name, str)


declared(count)
declared(count_with_context)
declared(send_email)  # type: ignore[arg-type]
