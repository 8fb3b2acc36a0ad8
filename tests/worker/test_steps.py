"""A step runs once and its result is kept, however often its job runs."""

from __future__ import annotations

import asyncio
import functools
import threading
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside
from kit.faults import ghost, lossy_proxy
from pydantic import BaseModel

from pgqueue import CodecError, InvalidStepError, JobContext, JobFailed, LeaseLostError, PgQueue
from pgqueue.errors import ContextError
from pgqueue.store import NO_PLACE, StoredStep
from pgqueue.tasks.step_names import check_step_name

if TYPE_CHECKING:
    from conftest import Connection

NAMES = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=200)


class Receipt(BaseModel):
    """What a payment provider answers."""

    number: int
    on: date


@pytest.mark.contract("P3.10")
async def test_a_rerun_returns_what_a_step_returned_and_does_not_call_it(
    pgq: PgQueue, db: Connection
) -> None:
    charged: list[str] = []
    received: list[Receipt] = []

    async def charge(card: str, *, amount: int) -> Receipt:
        charged.append(card)
        return Receipt(number=amount, on=date(2026, 1, 2))

    @pgq.task(max_retries=2, default_retry_delay=0)
    async def pay(ctx: JobContext) -> int:
        receipt = await ctx.step("charge", charge, "4242", amount=7)
        received.append(receipt)
        if ctx.attempt < 3:
            raise ConnectionResetError("mail server")
        return receipt.number

    job = await pay.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == 7

    assert charged == ["4242"]
    assert received == [Receipt(number=7, on=date(2026, 1, 2))] * 3
    assert await db.fetchval("select count(*) from pgqueue.step") == 1


@pytest.mark.contract("P3.10")
async def test_the_first_run_returns_what_a_rerun_would(pgq: PgQueue) -> None:
    returned: list[Any] = []

    def plain() -> Any:
        return [1, {"a": None}]

    def typed() -> tuple[int, date]:
        return (1, date(2026, 1, 2))

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext) -> None:
        returned.append([await ctx.step("plain", plain), await ctx.step("typed", typed)])
        if ctx.attempt == 1:
            raise ValueError

    job = await work.enqueue()
    async with pgq.worker():
        await job.result(timeout=60)

    assert returned == [[[1, {"a": None}], (1, date(2026, 1, 2))]] * 2


@pytest.mark.contract("P3.10")
async def test_a_step_may_be_a_coroutine_function_a_plain_one_or_anything_that_is_called(
    pgq: PgQueue,
) -> None:
    threads: list[int] = []

    def plain(number: int) -> int:
        threads.append(threading.get_ident())
        return number

    async def coroutine(number: int) -> int:
        return number

    class Callable_:  # noqa: N801
        async def __call__(self, number: int) -> int:
            return number

    @pgq.task
    async def work(ctx: JobContext) -> list[Any]:
        return [
            await ctx.step("plain", plain, 1),
            await ctx.step("coroutine", coroutine, number=2),
            await ctx.step("partial", functools.partial(coroutine, 3)),
            await ctx.step("lambda", lambda: coroutine(4)),
            await ctx.step("callable", Callable_(), 5),
            await ctx.step("builtin", len, "six..."),
            await ctx.step("none", lambda: None),
        ]

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == [1, 2, 3, 4, 5, 6, None]

    assert threads != [threading.get_ident()]


@pytest.mark.contract("P3.10")
async def test_steps_side_by_side_read_what_is_stored_once(pgq: PgQueue) -> None:
    reads: list[UUID] = []
    read_steps = inside.store(pgq).read_steps

    async def counted(connection: Any, job_id: UUID) -> dict[str, StoredStep]:
        reads.append(job_id)
        return await read_steps(connection, job_id)

    inside.store(pgq).read_steps = counted  # type: ignore[method-assign]

    async def double(number: int) -> int:
        return 2 * number

    @pgq.task
    async def work(ctx: JobContext) -> list[int]:
        return list(
            await asyncio.gather(*(ctx.step(f"double {number}", double, number) for number in range(5)))
        )

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == [0, 2, 4, 6, 8]

    assert reads == [job.id]


@pytest.mark.contract("P3.10")
async def test_a_step_that_raises_stores_nothing_and_may_be_tried_again(pgq: PgQueue) -> None:
    calls: list[int] = []

    async def flaky() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionResetError
        return len(calls)

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            return await ctx.step("flaky", flaky)
        try:
            return await ctx.step("flaky", flaky)
        except ConnectionResetError:
            return await ctx.step("flaky", flaky)

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == 3


@pytest.mark.contract("P3.10")
async def test_a_name_is_used_once_in_an_attempt(pgq: PgQueue) -> None:
    @pgq.task
    async def work(ctx: JobContext) -> None:
        for number in range(2):
            await ctx.step("charge", str, number)

    job = await work.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed, match="step 'charge': already ran in this attempt") as raised:
            await job.result(timeout=60)

    assert raised.value.error_type == "InvalidStepError"
    # As wrong the next time: not retried.
    assert (await job.refresh()).attempt == 1


@pytest.mark.contract("P3.10")
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "cannot be stored as JSON"),
        ("a\0b", "NUL character"),
        ("x" * 2000, "the limit is 1,000"),
    ],
    ids=["object", "NUL", "too long"],
)
async def test_a_result_that_cannot_be_stored_is_an_error_and_nothing_is_stored(
    dsn: str, db: Connection, value: object, said: str
) -> None:
    async with PgQueue(dsn, payload_limit=1000) as pgq:

        @pgq.task(max_retries=0)
        async def work(ctx: JobContext) -> str:
            with pytest.raises(InvalidStepError, match=said):
                await ctx.step("odd", lambda: value)
            return "raised"

        job = await work.enqueue()
        async with pgq.worker():
            assert await job.result(timeout=60) == "raised"

    assert await db.fetchval("select count(*) from pgqueue.step") == 0


@pytest.mark.contract("P3.10")
async def test_what_cannot_be_a_step_is_an_error_before_anything_is_called(pgq: PgQueue) -> None:
    calls: list[int] = []

    def unstorable() -> Any:
        calls.append(1)

    unstorable.__annotations__["return"] = threading.Thread

    @pgq.task(max_retries=0)
    async def work(ctx: JobContext) -> str:
        for name in ("", "x" * 201, "a\0b", "a\nb", None):
            with pytest.raises(InvalidStepError, match="the name of a step must"):
                await ctx.step(name, unstorable)  # type: ignore[call-overload]
        with pytest.raises(InvalidStepError, match="step 'odd': 5 is not a function"):
            await ctx.step("odd", 5)  # type: ignore[call-overload]
        with pytest.raises(InvalidStepError, match="wrap it in a function"):
            await ctx.step("odd", unstorable)
        return "raised"

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "raised"

    assert calls == []


@pytest.mark.contract("P3.10")
async def test_a_stored_result_that_does_not_fit_any_more_is_an_error(pgq: PgQueue) -> None:
    def before() -> str:
        return "seven"

    def after() -> int:
        return 7

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext) -> str:
        if ctx.attempt == 1:
            await ctx.step("number", before)
            raise ValueError
        with pytest.raises(CodecError, match=r"the result of step .number. of job .* cannot be decoded"):
            await ctx.step("number", after)
        return "raised"

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "raised"


@pytest.mark.contract("P3.10")
async def test_results_of_steps_go_through_the_codec(dsn: str, db: Connection) -> None:
    class Reversed:
        def encode(self, document: str) -> str:
            return f'"{document[::-1]}"'

        def decode(self, stored: str) -> str:
            return stored[-2:0:-1] if stored.startswith('"') else stored

    async with PgQueue(dsn, codec=Reversed()) as pgq:

        @pgq.task(max_retries=1, default_retry_delay=0)
        async def work(ctx: JobContext) -> int:
            number = await ctx.step("number", lambda: 123)
            if ctx.attempt == 1:
                raise ValueError
            return number

        job = await work.enqueue()
        async with pgq.worker():
            assert await job.result(timeout=60) == 123

    assert await db.fetchval("select result::text from pgqueue.step") == '"321"'


@pytest.mark.contract("P3.10", "P2.17")
async def test_a_step_of_an_attempt_that_lost_its_lease_stores_nothing(pgq: PgQueue, db: Connection) -> None:
    raised: list[BaseException] = []
    executions = asyncio.Event()

    async def lose_the_lease() -> str:
        # As if this worker had been away for long: its jobs go to another one.
        async with db.transaction():
            await db.execute("set local pgqueue.writer to 'on'")
            await db.execute("update pgqueue.running set lease_id = $1", uuid4())
        return "from the old attempt"

    @pgq.task(max_retries=0)
    async def work(ctx: JobContext) -> None:
        try:
            await ctx.step("charge", lose_the_lease)
        except LeaseLostError as error:
            raised.append(error)
            raise
        finally:
            executions.set()

    await work.enqueue()
    async with pgq.worker():
        await executions.wait()

    assert "the lease was lost before the result of step 'charge' was stored" in str(raised[0])
    assert await db.fetchval("select count(*) from pgqueue.step") == 0


@pytest.mark.contract("P3.10", "P2.17")
async def test_of_two_attempts_that_ran_a_step_both_go_on_with_the_result_stored_first(
    pgq: PgQueue,
) -> None:
    store = inside.store(pgq)

    @pgq.task
    async def work() -> None: ...

    await work.enqueue()
    async with ghost(pgq) as holder:
        [claimed] = await holder.claim()
        first = await store.record_step(holder.connection, claimed.id, holder.lease_id, "a", "1")
        again = await store.record_step(holder.connection, claimed.id, holder.lease_id, "a", "2")
        stranger = await store.record_step(holder.connection, claimed.id, uuid4(), "b", "3")

        assert (first, again, stranger) == ("1", "1", None)
        stored = {"a": StoredStep("1", NO_PLACE)}
        assert await store.read_steps(holder.connection, claimed.id) == stored


@pytest.mark.contract("P3.10")
async def test_a_step_whose_acknowledgement_is_lost_is_stored_once_and_not_run_again(
    dsn: str, db: Connection
) -> None:
    calls: list[int] = []
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as queue:

        def charge() -> int:
            calls.append(1)
            proxy.lose_answer_to("record_step")
            return len(calls)

        @queue.task(max_retries=0)
        async def work(ctx: JobContext) -> int:
            return await ctx.step("charge", charge)

        async with queue.worker():
            job = await work.enqueue()
            await proxy.lost.wait()
            assert await job.result(timeout=60) == 1

    assert calls == [1]
    assert await db.fetchval("select count(*) from pgqueue.step") == 1


@pytest.mark.contract("P3.10")
async def test_in_a_plain_function_a_step_is_an_error_that_says_so(pgq: PgQueue) -> None:
    @pgq.task
    def work(ctx: JobContext) -> str:
        with pytest.raises(ContextError, match=r"ctx\.step\(\) works in `async def` handlers"):
            _ = ctx.step("charge", len, "")
        with pytest.raises(ContextError, match=r"ctx\.transaction\(\) works in `async def` handlers"):
            ctx.transaction()
        return "raised"

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "raised"


@pytest.mark.contract("P3.9", "BP4")
async def test_idempotency_keys_are_the_same_in_every_attempt_and_redelivery_and_distinct_per_job_and_step(
    pgq: PgQueue, db: Connection
) -> None:
    keys: dict[UUID, list[tuple[str, str, str]]] = {}
    losses: list[int] = []

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext) -> None:
        losses.append(ctx.losses)
        seen = keys.setdefault(ctx.job_id, [])
        seen.append(
            (ctx.idempotency_key, ctx.idempotency_key_for("charge"), ctx.idempotency_key_for("refund"))
        )
        if ctx.attempt == 1:
            raise ValueError

    jobs = await pgq.enqueue_many(work.s() for _ in range(2))
    async with ghost(pgq) as holder:
        # Lost once before it runs: a redelivery, and not an attempt.
        assert len(await holder.claim()) == 2
        await holder.die()
        async with pgq.worker():
            for job in jobs:
                await job.result(timeout=60)

    assert {len(seen) for seen in keys.values()} == {2}
    assert all(len(set(seen)) == 1 for seen in keys.values())
    assert len({key for seen in keys.values() for key in seen[0]}) == 6
    assert losses == [1] * 4


@pytest.mark.contract("P3.9")
@given(NAMES, NAMES)
def test_keys_of_steps_differ_as_their_names_do(one: str, other: str) -> None:
    context = context_of(uuid4())

    assert (context.idempotency_key_for(one) == context.idempotency_key_for(other)) == (one == other)
    assert context.idempotency_key_for(one) != context_of(uuid4()).idempotency_key_for(one)
    assert len(context.idempotency_key_for(one)) == 36


@given(st.text(max_size=220))
def test_a_name_of_a_step_is_accepted_or_an_error_and_nothing_else(name: str) -> None:
    try:
        check_step_name(name)
    except InvalidStepError:
        return

    assert 1 <= len(name) <= 200
    assert "\0" not in name
    name.encode()


def context_of(job_id: UUID) -> JobContext:
    """Return the context of a job that runs nowhere."""
    return JobContext(
        job_id=job_id, task="work", queue="default", priority=0, attempt=1, losses=0, key=None, headers=None,
        worker="worker", services=lambda: pytest.fail("nobody asked for it"),
    )  # fmt: skip
