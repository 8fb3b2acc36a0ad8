"""Queues that keys share: they take turns, whatever one of them has enqueued, and nothing is capped."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from kit import inside
from kit.faults import Ghost
from kit.waiting import eventually

from pgqueue import (
    ConfigurationError,
    InvalidArgumentsError,
    InvalidOptionError,
    JobContext,
    JobStatus,
    PgQueue,
    Task,
)
from pgqueue.model.outcomes import Suspended

if TYPE_CHECKING:
    from conftest import Connection


@pytest.fixture
def work(pgq: PgQueue) -> Task[[str], None]:
    pgq.queue("default", fair_by="tenant", window=2)

    @pgq.task
    async def work(tenant: str) -> None: ...

    return work


async def attend(holder: Ghost) -> None:
    while (await holder.store.attend(holder.connection, None, 1000)).taken:
        pass


async def finish(holder: Ghost, ids: list[UUID]) -> None:
    await holder.store.finish(holder.connection, holder.lease_id, "ghost", ids, None, None)
    await attend(holder)


async def serve(holder: Ghost, count: int, at_once: int = 2) -> list[UUID]:
    """Have jobs run, *at_once* at a time, until *count* have; return them in the order of their starts."""
    served: list[UUID] = []
    while len(served) < count:
        jobs = sorted(await holder.claim(at_once), key=lambda job: job.position)
        if not jobs:
            break
        served += [job.id for job in jobs]
        await finish(holder, served[-len(jobs) :])
    return served


async def enqueue(pgq: PgQueue, work: Task[[str], None], **counts: int) -> dict[str, list[UUID]]:
    """Enqueue so many jobs of each tenant, one tenant after the other; return their ids."""
    jobs = {}
    for tenant, count in counts.items():
        jobs[tenant] = [each.id for each in await pgq.enqueue_many([work.s(tenant)] * count)]
    return jobs


def shares(served: list[UUID], jobs: dict[str, list[UUID]]) -> Counter[str]:
    return Counter(tenant for job in served for tenant, ids in jobs.items() if job in ids)


async def stand(db: Connection, ids: list[UUID]) -> Counter[str]:
    return Counter([str(await db.fetchval("select pgqueue.status_of($1)::text", each)) for each in ids])


@pytest.mark.contract("P8.4")
async def test_the_first_job_of_a_new_key_starts_within_one_window_of_each_that_waits(
    pgq: PgQueue, holder: Ghost, work: Task[[str], None]
) -> None:
    tenants = {f"t{number}": 8 for number in range(30)}
    await enqueue(pgq, work, **tenants)
    await serve(holder, 20, at_once=5)
    late = await enqueue(pgq, work, late=1)

    served = await serve(holder, 30 * 2 + 5, at_once=5)
    assert late["late"][0] in served[: 30 * 2 + 1]


@pytest.mark.contract("P8.4")
async def test_the_backlog_of_one_key_delays_the_first_job_of_another_by_a_few_claims(
    pgq: PgQueue, db: Connection, holder: Ghost, work: Task[[str], None]
) -> None:
    noisy = await enqueue(pgq, work, noisy=3000)
    assert await stand(db, noisy["noisy"][:5]) == {"pending": 2, "blocked": 3}
    await serve(holder, 10)
    quiet = await enqueue(pgq, work, quiet=1)

    assert quiet["quiet"][0] in await serve(holder, 4)
    # And after it the noisy one has all turns: nothing is capped.
    assert len(await serve(holder, 50, at_once=10)) == 50


@pytest.mark.contract("P8.4")
async def test_keys_take_turns_as_their_weights_say_and_none_starves(
    pgq: PgQueue, holder: Ghost, work: Task[[str], None]
) -> None:
    await pgq.set_weight("default", "heavy", 3)
    jobs = await enqueue(pgq, work, heavy=300, light=300, tiny=300)
    await pgq.set_weight("default", "tiny", 0.01)
    await serve(holder, 30)

    # At least one of its jobs stands ready, whatever its weight: half a window of two.
    assert shares(await serve(holder, 90), jobs) == pytest.approx(
        {"heavy": 60, "light": 20, "tiny": 10}, abs=6
    )
    await pgq.set_weight("default", "heavy", None)
    assert await pgq.weights("default") == {"tiny": 0.01}
    await serve(holder, 60)
    assert shares(await serve(holder, 100), jobs) == pytest.approx(
        {"heavy": 40, "light": 40, "tiny": 20}, abs=6
    )


@pytest.mark.contract("P8.4")
async def test_priorities_come_first_and_each_has_windows_of_its_own(
    pgq: PgQueue, db: Connection, holder: Ghost, work: Task[[str], None]
) -> None:
    await enqueue(pgq, work, a=5, b=5)
    high = await work.options(priority=5).enqueue("a")

    assert (await serve(holder, 1, at_once=1)) == [high.id]
    # One that waits and is raised comes to the windows of its new priority.
    last = await work.enqueue("a")
    assert await last.status() is JobStatus.BLOCKED
    await pgq.reprioritise(last.id, 7)
    await attend(holder)
    assert (await serve(holder, 1, at_once=1)) == [last.id]


@pytest.mark.contract("P8.4", "P3.13")
async def test_keys_share_the_slots_of_their_queue_and_of_limits_of_tasks(
    pgq: PgQueue, holder: Ghost
) -> None:
    pgq.queue("default", fair_by="tenant", window=2, slots=2)
    host = pgq.limit("host", slots=1)

    @pgq.task(limits=[host])
    async def work(tenant: str) -> None: ...

    await enqueue(pgq, work, noisy=50)
    quiet = await enqueue(pgq, work, quiet=1)

    assert len(await holder.claim(10)) == 1
    await finish(
        holder, [row[0] for row in await holder.connection.fetch("select job_id from pgqueue.running")]
    )
    assert quiet["quiet"][0] in await serve(holder, 2)
    assert len(await serve(holder, 100)) == 48
    assert await holder.connection.fetchval("select count(*) from pgqueue.gate_pass") == 0
    assert await holder.connection.fetchval("select count(*) from pgqueue.window_lane") == 0


@pytest.mark.contract("P8.4")
async def test_free_slots_are_filled_though_more_run_than_a_window_has(pgq: PgQueue) -> None:
    pgq.queue("default", fair_by="tenant", window=2)
    running, all_run = 0, asyncio.Event()

    @pgq.task
    async def long(tenant: str) -> None:
        nonlocal running
        running += 1
        if running == 20:
            all_run.set()
        await all_run.wait()

    jobs = await pgq.enqueue_many([long.s("one") for _ in range(30)])
    async with pgq.worker(concurrency=20):
        await asyncio.wait_for(all_run.wait(), 180)
        for job in jobs:
            await job.result(timeout=60)


@pytest.mark.contract("P8.4")
async def test_free_slots_are_shared_by_weights_and_only_a_lone_key_comes_up_as_fast_as_it_ends(
    pgq: PgQueue, db: Connection, holder: Ghost, work: Task[[str], None]
) -> None:
    lane = await db.fetchval("select id from pgqueue.lane where queue = 'default'")

    async def ask(free: int) -> int:
        refilled = await holder.store.refill(holder.connection, [lane], UUID(int=0), 64, free)
        assert list(refilled.lanes) == ([lane] if refilled.found else [])
        return refilled.found

    async def ready(jobs: dict[str, list[UUID]]) -> Counter[str]:
        return shares([row[0] for row in await db.fetch("select job_id from pgqueue.ready")], jobs)

    jobs = await enqueue(pgq, work, a=200)
    await holder.claim()
    assert await ask(20) == 1
    assert await ready(jobs) == {"a": 20}
    assert await ask(20) == 0
    await finish(holder, [job.id for job in await holder.claim()])
    assert await ready(jobs) == {"a": 20}

    jobs |= await enqueue(pgq, work, b=200)
    await pgq.set_weight("default", "a", 3)
    first = await holder.claim()
    assert await ask(40) == 2
    assert await ready(jobs) == {"a": 30, "b": 10}
    await holder.claim()
    await finish(holder, [job.id for job in first])
    assert await ready(jobs) == {"a": 6, "b": 2}


@pytest.mark.contract("P8.4")
async def test_a_job_that_goes_on_after_a_wait_comes_before_its_keys_backlog(
    pgq: PgQueue, holder: Ghost
) -> None:
    pgq.queue("default", fair_by="tenant", window=1)

    @pgq.task
    async def work(tenant: str) -> None: ...

    first = await work.enqueue("a")
    [job] = await holder.claim()
    await holder.store.suspend(holder.connection, holder.lease_id, [Suspended(job.id, None, None, "called")])
    await enqueue(pgq, work, a=20)
    await attend(holder)
    await pgq.signal(first.id, "called")
    await attend(holder)

    assert (await serve(holder, 2, at_once=1))[1] == first.id


@pytest.mark.contract("P8.4")
async def test_jobs_of_before_a_queue_was_fair_keep_their_places_and_those_behind_windows_run_after_it_was(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    @pgq.task
    async def work(tenant: str) -> None: ...

    before = await enqueue(pgq, work, a=5)
    pgq.queue("default", fair_by="tenant", window=2)
    fair = await enqueue(pgq, work, a=5, b=1)
    pgq.queue("default")
    after = await enqueue(pgq, work, a=3)

    assert await stand(db, fair["a"]) == {"pending": 2, "blocked": 3}
    assert await stand(db, [*before["a"], *after["a"]]) == {"pending": 8}
    served = await serve(holder, 14)
    assert served[:5] == before["a"]
    assert set(served[5:8]) == {*fair["a"][:2], *fair["b"]}
    assert len(served) == 14


@pytest.mark.contract("P8.4")
async def test_the_first_deployment_sets_the_window_and_each_the_keys_of_its_own_jobs(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    @pgq.task
    async def work(tenant: str) -> None: ...

    pgq.queue("default", fair_by="tenant", window=2)
    await enqueue(pgq, work, a=3)
    inside.forget_limits(pgq)
    pgq.queue("default", fair_by=lambda tenant: f"{tenant}/other", window=5)
    other = await enqueue(pgq, work, a=7)
    assert await stand(db, other["a"]) == {"pending": 2, "blocked": 5}
    await pgq.set_limit("fair/default", slots=4)
    await attend(holder)
    assert await stand(db, other["a"]) == {"pending": 4, "blocked": 3}


@pytest.mark.contract("P8.4")
async def test_a_callers_open_transaction_holds_up_neither_its_key_nor_others(
    pgq: PgQueue, db: Connection, holder: Ghost, work: Task[[str], None]
) -> None:
    await enqueue(pgq, work, a=5)
    async with db.transaction():
        mine = await pgq.enqueue(work.s("a"), connection=db)
        await holder.connection.execute("set lock_timeout = '2s'")
        assert len(await serve(holder, 10)) == 5
        assert (await enqueue(pgq, work, b=1))["b"] == await serve(holder, 1)
    await attend(holder)
    assert await serve(holder, 1) == [mine.id]


@pytest.mark.contract("P8.4")
async def test_whatever_becomes_of_jobs_none_stays_behind_a_window(pgq: PgQueue, db: Connection) -> None:
    pgq.queue("default", fair_by="tenant", window=1)
    snoozed: set[int] = set()

    @pgq.task(max_retries=2, retry_backoff=0.01)
    async def work(ctx: JobContext, tenant: str, number: int) -> None:
        if number % 3 == ctx.attempt:
            raise ValueError(number)
        if number % 5 == 0 and number not in snoozed:
            snoozed.add(number)
            raise ctx.snooze(0.02)
        if number % 7 == 0:
            await ctx.sleep("a while", 0.02)

    jobs = await pgq.enqueue_many(
        [work.options(priority=number % 2, delay=0.1 * (number % 4 == 0)).s(f"t{number % 4}", number)
         for number in range(80)]
    )  # fmt: skip
    for job in jobs[::9]:
        await job.cancel()
    await pgq.pause(queue="default")

    async def all_have_ended() -> bool:
        return not await db.fetchval("select count(*) from pgqueue.job where status is null")

    async with pgq.worker(concurrency=8):
        await pgq.resume(queue="default")
        await eventually(all_have_ended)
    assert await db.fetchval("select count(*) from pgqueue.gate_pass") == 0
    assert await db.fetchval("select count(*) from pgqueue.blocked") == 0


async def test_declarations_and_calls_that_have_no_key_are_refused_and_change_nothing(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(queue="mail")
    async def send(to: str) -> None: ...

    with pytest.raises(
        InvalidOptionError, match="fair_by is 'tenant', which is no argument of its task 'send'"
    ):
        pgq.queue("mail", fair_by="tenant")

    async def later(to: str) -> str:
        return to

    for key in ("", 7, b"to", later):
        with pytest.raises(InvalidOptionError, match="fair_by must be the name of an argument"):
            pgq.queue("mail", fair_by=key)  # type: ignore[arg-type]
    for window in (0, -1, 1.5, True, 10_001, math.nan):
        with pytest.raises(InvalidOptionError, match="window must be"):
            pgq.queue("mail", fair_by="to", window=window)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="window is of the keys of fair_by"):
        pgq.queue("mail", window=5)
    await send.enqueue("a")
    assert await db.fetchval("select count(*) from pgqueue.ready") == 1

    pgq.queue("mail", fair_by="to")
    with pytest.raises(InvalidOptionError, match="fair_by is 'to', which is no argument of its task 'other'"):

        @pgq.task(queue="mail")
        async def other(tenant: str) -> None: ...

    @pgq.task
    async def elsewhere(tenant: str) -> None: ...

    with pytest.raises(InvalidArgumentsError, match="fair_by of queue 'mail' is argument 'to'"):
        await elsewhere.options(queue="mail").enqueue("a")
    with pytest.raises(InvalidArgumentsError, match="fair_by of queue 'mail' must be at most 512 characters"):
        await send.enqueue("x" * 10_000)
    pgq.queue("mail", fair_by=lambda to: to[7])
    with pytest.raises(InvalidArgumentsError, match="fair_by of queue 'mail' could not be computed"):
        await send.enqueue("x")
    assert await db.fetchval("select count(*) from pgqueue.job") == 1


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, 1e-9, 1001, 10**400, True, "1"])
async def test_a_weight_that_is_none_is_refused_and_changes_nothing(pgq: PgQueue, weight: Any) -> None:
    with pytest.raises(InvalidOptionError, match="set_weight: queue 'mail': weight must be from 0"):
        await pgq.set_weight("mail", "a", weight)
    for key in ("x" * 10_000, "\0", math.nan, object(), "\ud800"):
        with pytest.raises(InvalidOptionError, match="set_weight: queue 'mail': the key"):
            await pgq.set_weight("mail", key, 1)
    with pytest.raises(ConfigurationError):
        await pgq.set_weight("", "a", 1)
    assert await pgq.weights("mail") == {}
    await pgq.set_weight("mail", 7, 2)
    await pgq.set_weight("mail", {"b": [1, None]}, 0.5)
    assert await pgq.weights("mail") == {"7": 2, '{"b": [1, null]}': 0.5}
