"""What handlers hold, or count, in their middle: no more than is allowed, nor longer than they run."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid4

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import inside, isolated_tasks
from kit.app_for_tests import make_tables, worker_process
from kit.faults import Ghost, ghost, lossy_proxy
from kit.waiting import eventually, holds

from pgqueue import (
    ContextError,
    InvalidOptionError,
    JobFailed,
    LeaseLostError,
    Limiter,
    LimiterFullError,
    PgQueue,
    SoftTimeLimitExceeded,
)
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus as Status
from pgqueue.model.outcomes import Ended, Retried, Suspended
from pgqueue.tasks.limiters import Allowed

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P8.3")

SLOT = Allowed("slots", "one", 1)


class Inside:
    """Who is in a block now, and the most that there have been at once."""

    def __init__(self, company: int = 1) -> None:
        self.names: list[object] = []
        self.order: list[object] = []
        self.most = 0
        self._company = company
        """So many are to be there at once, some time: the first ones wait for it."""

    @asynccontextmanager
    async def visit(self, name: object, seconds: float = 0.005) -> AsyncIterator[None]:
        self.names.append(name)
        self.order.append(name)
        self.most = max(self.most, len(self.names))
        await asyncio.sleep(seconds)
        with anyio.move_on_after(20):
            await eventually(lambda: holds(self.most >= self._company))
        yield
        self.names.remove(name)


@asynccontextmanager
async def two_workers(dsn: str, declare: Callable[[PgQueue], Any]) -> AsyncIterator[Sequence[Any]]:
    """Run two PgQueues with a worker each; yield what *declare* returns for each."""
    async with AsyncExitStack() as stack:
        declared = []
        for _ in range(2):
            pgq = await stack.enter_async_context(PgQueue(dsn, connect_timeout=60))
            declared.append(declare(pgq))
            await stack.enter_async_context(pgq.worker(concurrency=10))
        yield declared


# How many


@pytest.mark.parametrize("slots", [1, 3])
async def test_over_all_workers_as_many_jobs_are_in_a_block_as_it_has_slots_and_no_more(
    dsn: str, slots: int
) -> None:
    seen = Inside(company=slots)

    def declare(pgq: PgQueue) -> Any:
        limiter = pgq.mutex("door") if slots == 1 else pgq.concurrent("door", slots=slots)

        @pgq.task
        async def work(number: int) -> None:
            async with limiter as has_room, seen.visit(number):
                assert has_room

        return work

    async with two_workers(dsn, declare) as (work, _):
        jobs = await work.host.enqueue_many([work.s(number) for number in range(40)])
        for job in jobs:
            await job.result(timeout=180)

    assert seen.most == slots
    assert sorted(map(str, seen.order)) == sorted(map(str, range(40)))


async def test_jobs_come_to_a_mutex_in_the_order_in_which_they_asked(pgq: PgQueue, db: Connection) -> None:
    seen, is_open = Inside(), asyncio.Event()

    @pgq.task
    async def first() -> None:
        async with pgq.mutex("door"):
            await is_open.wait()

    @pgq.task
    async def work(number: int) -> None:
        async with pgq.mutex("door"), seen.visit(number, 0):
            pass

    async with pgq.worker(concurrency=20):
        jobs: list[Any] = [await first.enqueue()]
        await eventually(lambda: has_holds(db, 1))
        for number in range(8):
            jobs.append(await work.enqueue(number))
            await eventually(lambda number=number: has_holds(db, number + 2))  # type: ignore[misc]
        is_open.set()
        for job in jobs:
            await job.result(timeout=180)

    assert seen.order == list(range(8))


async def has_holds(db: Connection, count: int) -> bool:
    return bool(await db.fetchval("select count(*) from pgqueue.limiter_hold") == count)


@pytest.mark.parametrize("kind", ["bucket", "window"])
async def test_as_many_enter_as_the_time_allows_and_the_next_when_it_has_passed(
    pgq: PgQueue, db: Connection, kind: Literal["bucket", "window"]
) -> None:
    limiter = getattr(pgq, kind)("api", limit=3, per=3600, wait=0, raise_on_failure=False)

    @pgq.task
    async def work() -> bool:
        async with limiter as has_room:
            return bool(has_room)

    async def entered(count: int) -> list[bool]:
        return [await (await work.enqueue()).result(timeout=180) for _ in range(count)]

    async with pgq.worker():
        assert await entered(4) == [True, True, True, False]
        # The same as if time had passed.
        await back_date(db, 1300)
        # A token has come back; the window has not passed.
        assert await entered(2) == [kind == "bucket", False]
        await back_date(db, 2400)
        assert await entered(4) == [True, True, kind == "window", False]


async def back_date(db: Connection, seconds: float) -> None:
    await db.execute(
        "update pgqueue.limiter_state set at = at - make_interval(secs => $1), "
        "until = until - make_interval(secs => $1), latest = latest - floor($1 / width)",
        seconds,
    )


@pytest.mark.parametrize("kind", ["bucket", "window"])
async def test_who_waits_for_a_rate_enters_as_soon_as_it_allows_and_never_before(
    dsn: str, db: Connection, kind: Literal["bucket", "window"]
) -> None:
    # By the server's clock: answers reach the handlers later, and several at once.
    await db.execute(NOTE_GRANTS)

    def declare(pgq: PgQueue) -> Any:
        limiter = getattr(pgq, kind)("api", limit=5, per=0.5)

        @pgq.task
        async def work() -> None:
            async with limiter:
                pass

        return work

    async with two_workers(dsn, declare) as (work, _):
        for job in await work.host.enqueue_many([work.s() for _ in range(15)]):
            await job.result(timeout=180)

    times = [row["at"] for row in await db.fetch("select at from granted order by at")]
    assert len(times) == 15
    # Of a bucket, twice its size in its first period. A stretch shorter than `per`: rounding.
    most = 10 if kind == "bucket" else 5
    assert max(sum(at <= other < at + 0.45 for other in times) for at in times) <= most
    assert times[-1] - times[0] >= 0.9


NOTE_GRANTS = """
create table public.granted (at double precision not null);
create function public.note_grant() returns trigger language plpgsql as
    'begin insert into public.granted values (extract(epoch from new.at)); return null; end';
create trigger note_grant after insert on pgqueue.limiter_state for each row execute function note_grant();
"""


# If there is no room


async def test_a_limiter_without_room_is_an_error_that_says_what_now_or_false(
    pgq: PgQueue, db: Connection
) -> None:
    is_open = asyncio.Event()

    @pgq.task
    async def hold() -> None:
        async with pgq.mutex("door"):
            await is_open.wait()

    @pgq.task(max_retries=0)
    async def work(wait: float | None, raises: bool) -> bool:
        async with pgq.mutex("door", wait=wait, raise_on_failure=raises) as has_room:
            return has_room

    async with pgq.worker():
        holding = await hold.enqueue()
        await eventually(lambda: has_holds(db, 1))
        jobs = [await work.enqueue(wait, True) for wait in (0, 0.2)]
        errors = []
        for job in jobs:
            with pytest.raises(JobFailed) as failed:
                await job.result(timeout=180)
            errors.append(str(failed.value))
        assert await (await work.enqueue(0, False)).result(timeout=180) is False
        assert await (await work.enqueue(0.1, False)).result(timeout=180) is False
        # They have given back their turns.
        assert await has_holds(db, 1)
        is_open.set()
        await holding.result(timeout=180)

    assert "mutex 'door' had no room; pass a longer wait=, or try later" in errors[0]
    assert "mutex 'door' had no room within 0.2 s; pass a longer wait=" in errors[1]


async def test_the_error_says_when_there_may_be_room(pgq: PgQueue) -> None:
    @pgq.task
    async def work(kind: str) -> float | None:
        async with getattr(pgq, kind)("api", limit=1, per=100, wait=0):
            pass
        with pytest.raises(LimiterFullError) as full:
            async with getattr(pgq, kind)("api", limit=1, per=100, wait=0):
                pass
        assert full.value.name == "api"
        return full.value.retry_after

    async with pgq.worker():
        for kind in ("bucket", "window"):
            seconds = await (await work.enqueue(kind)).result(timeout=180)
            assert seconds is not None
            assert 50 < seconds <= 102


@pytest.mark.parametrize(
    "make",
    [
        lambda pgq: pgq.mutex(""),
        lambda pgq: pgq.mutex("x" * 201),
        lambda pgq: pgq.mutex("a\0b"),
        lambda pgq: pgq.mutex("door", wait=-1),
        lambda pgq: pgq.mutex("door", wait=float("nan")),
        lambda pgq: pgq.mutex("door", raise_on_failure="no"),
        lambda pgq: pgq.concurrent("door", slots=0),
        lambda pgq: pgq.concurrent("door", slots=True),
        lambda pgq: pgq.concurrent("door", slots=10_001),
        lambda pgq: pgq.bucket("door", limit=0, per=1),
        lambda pgq: pgq.bucket("door", limit=1, per=0),
        lambda pgq: pgq.bucket("door", limit=1, per=float("nan")),
        lambda pgq: pgq.window("door", limit=1, per=float("inf")),
        lambda pgq: pgq.window("door", limit=1.5, per=1),
    ],
)
async def test_a_limiter_that_cannot_be_is_refused_where_it_is_made(
    pgq: PgQueue, make: Callable[[PgQueue], Limiter]
) -> None:
    with pytest.raises(InvalidOptionError):
        make(pgq)


# Where it may be used


async def test_outside_of_a_job_in_itself_and_of_another_pgqueue_it_is_an_error_that_says_what_now(
    pgq: PgQueue, dsn: str
) -> None:
    other = PgQueue(dsn)
    errors: list[str] = []

    async def fails(limiter: Limiter) -> None:
        with pytest.raises(ContextError) as error:
            async with limiter:
                pass
        errors.append(str(error.value))

    @pgq.task
    async def work() -> None:
        await fails(other.mutex("door"))
        async with pgq.mutex("door"):
            await fails(pgq.mutex("door"))
            await fails(pgq.concurrent("door", slots=2))
            async with asyncio.TaskGroup() as group:
                group.create_task(fails(pgq.mutex("door")))
            bucket = pgq.bucket("door", limit=2, per=1)
            async with pgq.mutex("another"), bucket, bucket:
                pass
        # It is left: the next block is no block inside it.
        async with pgq.mutex("door"):
            pass
        with pytest.raises(ContextError) as error, pgq.mutex("door"):
            pass
        errors.append(str(error.value))

    await fails(pgq.mutex("door"))
    async with pgq.worker():
        await (await work.enqueue()).result(timeout=180)

    assert "was used outside of a job" in errors[0]
    assert "belongs to another PgQueue" in errors[1]
    assert all("is held by this block of job" in error for error in errors[2:5])
    assert errors[5:] == ["mutex 'door': `with` blocks the event loop; use `async with`"]


async def test_tasks_of_one_handler_wait_for_each_other(pgq: PgQueue) -> None:
    seen, pair = Inside(), asyncio.Barrier(2)

    @pgq.task
    async def work() -> None:
        async def one(number: int) -> None:
            async with pgq.concurrent("api", slots=2), seen.visit(number):
                await pair.wait()

        await asyncio.gather(*map(one, range(8)))

    async with pgq.worker():
        await (await work.enqueue()).result(timeout=180)

    assert (seen.most, len(seen.order)) == (2, 8)


async def test_plain_handlers_hold_it_by_with(pgq: PgQueue, db: Connection) -> None:
    inside_now: list[int] = []
    most: list[int] = []

    @pgq.task
    def work(number: int) -> bool:
        with pgq.mutex("door") as has_room:
            inside_now.append(number)
            most.append(len(inside_now))
            time.sleep(0.005)
            inside_now.remove(number)
        return has_room

    async with pgq.worker(concurrency=8):
        jobs = await pgq.enqueue_many([work.s(number) for number in range(16)])
        assert [await job.result(timeout=180) for job in jobs] == [True] * 16

    assert max(most) == 1
    assert await has_holds(db, 0)


@pytest.mark.parametrize("is_soft", [True, False], ids=["soft limit", "hard limit"])
async def test_a_plain_handler_that_waits_heeds_its_time_limits_and_leaves_no_turn_behind(
    pgq: PgQueue, db: Connection, is_soft: bool
) -> None:
    is_open = asyncio.Event()
    told: list[type[BaseException]] = []

    @pgq.task
    async def hold() -> None:
        async with pgq.mutex("door"):
            await is_open.wait()

    @pgq.task(max_retries=0, soft_timeout=100 if is_soft else None, timeout=None if is_soft else 100)
    def work() -> None:
        try:
            with pgq.mutex("door"):
                pass
        except BaseException as error:
            told.append(type(error))
            raise

    async with pgq.worker() as worker:
        holding = await hold.enqueue()
        await eventually(lambda: has_holds(db, 1))
        job = await work.enqueue()
        # It waits, however long its thread has taken to come so far.
        await eventually(lambda: has_holds(db, 2))
        inside.let_time_pass(worker, 99.9)
        with pytest.raises(JobFailed):
            await job.result(timeout=180)
        await eventually(lambda: told_of(told, SoftTimeLimitExceeded if is_soft else LeaseLostError))
        next_one = await hold.enqueue()
        is_open.set()
        await holding.result(timeout=180)
        await next_one.result(timeout=180)


async def told_of(told: list[type[BaseException]], expected: type[BaseException]) -> bool:
    return told == [expected]


# How it ends


DOORS: dict[str, Callable[[Ghost, UUID], Awaitable[object]]] = {
    "finish": lambda by, job: by.store.finish(by.connection, by.lease_id, "ghost", [job], None, None),
    "fail": lambda by, job: by.store.fail(
        by.connection, by.lease_id, "ghost", [Ended(job, Status.FAILED, "exception", JobError("E", "no"))]
    ),
    "cancel": lambda by, job: by.store.fail(
        by.connection, by.lease_id, "ghost", [Ended(job, Status.CANCELLED, "cancelled", None)]
    ),
    "retry": lambda by, job: by.store.retry(
        by.connection, by.lease_id, "ghost", [Retried(job, 0.0, "exception", JobError("E", "no"))]
    ),
    "release": lambda by, job: by.store.release(by.connection, by.lease_id, "ghost", [job]),
    "suspend": lambda by, job: by.store.suspend(
        by.connection, by.lease_id, [Suspended(job, None, None, "event")]
    ),
}


@pytest.mark.parametrize("door", DOORS)
async def test_whatever_ends_the_attempt_its_slot_is_free_and_the_job_does_not_hold_it_when_it_runs_again(
    pgq: PgQueue, door: str
) -> None:
    jobs = [(await pgq.enqueue_by_name("work")).id for _ in range(2)]
    async with ghost(pgq) as holder:
        await holder.claim()

        async def ask(job_id: UUID, hold: UUID) -> str:
            return (
                await holder.store.take_limiter(
                    holder.connection, hold, SLOT, job_id, holder.lease_id, waits=False
                )
            ).verdict

        first, second = uuid4(), uuid4()
        assert await ask(jobs[0], first) == "held"
        assert await ask(jobs[0], first) == "held"
        assert await ask(jobs[1], second) == "full"
        await DOORS[door](holder, jobs[0])
        assert await ask(jobs[0], first) == "lost"
        # The same lease has it again: another attempt.
        await holder.claim()
        assert await ask(jobs[1], second) == "held"
        assert await holder.store.leave_limiter(holder.connection, second) is None
        assert await ask(jobs[1], uuid4()) == "held"


async def test_what_a_killed_worker_held_is_free_with_the_rescue_of_its_job(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    jobs = [await pgq.enqueue_by_name("hang_in_mutex") for _ in range(2)]

    with worker_process(dsn, name="victim", lease_ttl=30) as victim:
        await eventually(lambda: has_holds(db, 2))
        victim.kill()
        with worker_process(dsn, name="heir", lease_ttl=30):
            # One of them had it and is run again, the other had kept its turn.
            for job in jobs:
                assert await job.result(timeout=180) == "heir"

    assert await db.fetchval("select max(at_once) from at_once") == 1


@pytest.mark.parametrize("is_carried_out", [True, False], ids=["answer lost", "never arrived"])
@pytest.mark.parametrize("statement", ["take_limiter", "leave_limiter"])
async def test_a_connection_that_is_lost_on_the_way_in_or_out_neither_doubles_nor_leaks_a_slot(
    dsn: str, db: Connection, statement: str, is_carried_out: bool
) -> None:
    seen = Inside()
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as pgq:

        @pgq.task
        async def work(number: int) -> None:
            async with pgq.mutex("door"), seen.visit(number):
                pass

        async with pgq.worker(concurrency=1):
            # Before the first one: a statement that a connection has prepared is not known by its text.
            proxy.lose_statement(statement, is_carried_out=is_carried_out)
            for number in (0, 1, 2):
                await (await work.enqueue(number)).result(timeout=180)
            assert proxy.lost.is_set()
            await eventually(lambda: has_holds(db, 0))

    assert (seen.most, seen.order) == (1, [0, 1, 2])


async def test_neither_waiting_nor_a_block_keeps_a_connection(dsn: str, db: Connection) -> None:
    is_open = asyncio.Event()
    async with PgQueue(dsn, max_connections=1) as pgq:

        @pgq.task
        async def work() -> None:
            async with pgq.mutex("door"):
                await is_open.wait()

        async with pgq.worker(concurrency=10):
            jobs = await pgq.enqueue_many([work.s() for _ in range(6)])
            await eventually(lambda: has_holds(db, 6))
            # The one connection is free for all others.
            assert (await pgq.get(jobs[0].id)).status is Status.RUNNING
            is_open.set()
            for job in jobs:
                await job.result(timeout=180)
        await eventually(lambda: has_holds(db, 0))


async def test_a_wait_that_is_cancelled_leaves_no_turn_behind_and_the_handler_goes_on(
    pgq: PgQueue, db: Connection
) -> None:
    is_open = asyncio.Event()

    @pgq.task
    async def hold() -> None:
        async with pgq.mutex("door"):
            await is_open.wait()

    @pgq.task
    async def work() -> str:
        for name in ("door", "other"):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2), pgq.mutex(name):
                    await asyncio.sleep(60)
            await eventually(lambda: has_holds(db, 1))
        return "went on"

    async with pgq.worker():
        holding = await hold.enqueue()
        await eventually(lambda: has_holds(db, 1))
        assert await (await work.enqueue()).result(timeout=180) == "went on"
        is_open.set()
        await holding.result(timeout=180)


async def test_jobs_that_are_cancelled_while_they_hold_or_wait_give_way(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def hang() -> None:
        async with pgq.mutex("door"):
            await asyncio.sleep(3600)

    @pgq.task
    async def last() -> str:
        async with pgq.mutex("door"):
            return "in"

    async with pgq.worker():
        hanging = []
        for number in range(2):
            hanging.append(await hang.enqueue())
            await eventually(lambda number=number: has_holds(db, number + 1))  # type: ignore[misc]
        job = await last.enqueue()
        await eventually(lambda: has_holds(db, 3))
        for each in hanging:
            await each.cancel()
        assert await job.result(timeout=180) == "in"


@pytest.fixture
async def tasks(dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """The module of isolated tasks, with its PgQueue open, as its children find it."""
    monkeypatch.setenv(isolated_tasks.DSN, dsn)
    module = importlib.reload(isolated_tasks)
    async with module.pgq:
        yield module


async def test_isolated_handlers_hold_it_too(tasks: Any) -> None:
    async with tasks.pgq.worker(concurrency=3):
        jobs = await tasks.pgq.enqueue_many(
            [getattr(tasks, name).s() for name in ("hold_in_child", "hold_in_child_async") for _ in range(4)]
        )
        spans = sorted([await job.result(timeout=180) for job in jobs])

    assert len(spans) == 8
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


# Decided by the database


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_whatever_happens_slots_are_as_a_model_says(data: st.DataObject, scene: Scene) -> None:
    slots = data.draw(st.integers(1, 3), label="slots")
    await scene.begin(Allowed("slots", f"one {uuid4()}", slots))
    for _ in range(data.draw(st.integers(1, 25), label="moves")):
        await scene.move(data.draw(st.sampled_from(MOVES)), data.draw(st.integers(0, 4), label="job"))


MOVES = ("ask", "try", "leave", "end", "again", "sweep")


class Scene:
    """Five jobs that ask one limiter, and what they have by a model: who holds, and who waits in turn."""

    def __init__(self, holder: Ghost, jobs: list[UUID]) -> None:
        self._holder = holder
        self._jobs = jobs

    async def begin(self, allowed: Allowed) -> None:
        """Have nobody hold anything, and all jobs run."""
        self._allowed = allowed
        self._hold = [uuid4() for _ in self._jobs]
        self._holding: list[int] = []
        self._waiting: list[int] = []
        self._ended: set[int] = set()
        await self._again(range(len(self._jobs)))

    async def move(self, what: str, job: int) -> None:
        """Do one thing, and compare."""
        by = self._holder
        match what:
            case "ask" | "try":
                taken = await by.store.take_limiter(
                    by.connection,
                    self._hold[job],
                    self._allowed,
                    self._jobs[job],
                    by.lease_id,
                    waits=what == "ask",
                )
                assert taken.verdict == self._expected(job, waits=what == "ask")
            case "leave":
                await by.store.leave_limiter(by.connection, self._hold[job])
                self._forget(job)
            case "end" if job not in self._ended:
                await by.store.release(by.connection, by.lease_id, "ghost", [self._jobs[job]])
                self._ended.add(job)
                self._forget(job)
            case "again" if job in self._ended:
                await self._again(sorted(self._ended))
            case "sweep":
                await by.store.sweep_limiters(by.connection, UUID(int=0), 1000)

    def _expected(self, job: int, *, waits: bool) -> str:
        if job in self._ended:
            return "lost"
        if job in self._holding:
            return "held"
        ahead = self._waiting[: self._waiting.index(job)] if job in self._waiting else self._waiting
        if len(self._holding) + len(ahead) < self._allowed.most:
            self._forget(job)
            self._holding.append(job)
            return "held"
        if waits:
            if job not in self._waiting:
                self._waiting.append(job)
            return "waits"
        self._forget(job)
        return "full"

    def _forget(self, job: int) -> None:
        for those in (self._holding, self._waiting):
            if job in those:
                those.remove(job)

    async def _again(self, jobs: Sequence[int]) -> None:
        # Another attempt of the same jobs, which ask anew: a claim takes all that have ended.
        await self._holder.claim()
        for job in jobs:
            self._ended.discard(job)
            self._hold[job] = uuid4()


@pytest.fixture
async def scene(pgq: PgQueue) -> AsyncIterator[Scene]:
    jobs = [(await pgq.enqueue_by_name("work")).id for _ in range(5)]
    async with ghost(pgq) as holder:
        await holder.claim()
        yield Scene(holder, jobs)


@pytest.mark.parametrize("kind", ["bucket", "window"])
@pytest.mark.parametrize(
    "at", ["now() + interval '1 hour'", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-12-31'"]
)
async def test_a_clock_that_was_set_back_and_values_that_nobody_writes_neither_stop_a_limiter_nor_open_it(
    pgq: PgQueue, db: Connection, kind: Literal["bucket", "window"], at: str
) -> None:
    job = await pgq.enqueue_by_name("work")
    async with ghost(pgq) as holder:
        await holder.claim()
        allowed = Allowed(kind, "api", 2, 3600.0)

        async def ask() -> str:
            return (
                await holder.store.take_limiter(
                    holder.connection, uuid4(), allowed, job.id, holder.lease_id, waits=False
                )
            ).verdict

        assert [await ask() for _ in range(3)] == ["held", "held", "full"]
        await db.execute(f"update pgqueue.limiter_state set at = {at}")
        first = await ask()
        # Of a time that is still to come nothing has passed, and a window goes by its slices.
        is_counted = "hour" in at or "294276" in at or ("BC" in at and kind == "window")
        assert first == ("full" if is_counted else "held")
        await db.execute(
            "update pgqueue.limiter_state "
            "set at = now() - interval '2 hours', until = now() - interval '1 hour'"
        )
        assert await ask() == "held"
        await db.execute("update pgqueue.limiter_state set tokens = 'NaN', counts = '{NULL}', latest = -7")
        assert await ask() in ("held", "full")


async def test_limiters_that_nothing_has_used_for_a_day_are_removed_and_no_others(
    pgq: PgQueue, db: Connection
) -> None:
    job = await pgq.enqueue_by_name("work")
    async with ghost(pgq) as holder:
        await holder.claim()
        for name in ("held", "idle", "new"):
            await holder.store.take_limiter(
                holder.connection, uuid4(), Allowed("slots", name, 1), job.id, holder.lease_id, waits=False
            )
        long = Allowed("window", "long", 1, 1e7)
        await holder.store.take_limiter(
            holder.connection, uuid4(), long, job.id, holder.lease_id, waits=False
        )
        await db.execute(
            "delete from pgqueue.limiter_hold using pgqueue.limiter "
            "where limiter.id = limiter_hold.limiter and name <> 'held'"
        )
        await db.execute(
            "update pgqueue.limiter set made_at = now() - interval '2 days';"
            "update pgqueue.limiter_state set at = at - interval '2 days', until = until - interval '2 days' "
            "where limiter <> (select id from pgqueue.limiter where name = 'new')"
        )
        reached = await holder.store.sweep_limiters(holder.connection, UUID(int=0), 2)
        assert reached is not None
        assert await holder.store.sweep_limiters(holder.connection, reached, 3) is None

    left = await db.fetch("select name from pgqueue.limiter order by name")
    assert [row["name"] for row in left] == ["held", "long", "new"]
    assert await db.fetchval("select count(*) from pgqueue.limiter_state") == 3
