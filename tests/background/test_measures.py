"""What is seen of a running system: queues, workers and history, and what follows from counts."""

from __future__ import annotations

import math
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit import inside
from kit.claimed import claimed_job
from kit.waiting import eventually

from pgqueue import JobContext, PgQueue
from pgqueue.background.stats import Tallies
from pgqueue.client import measuring
from pgqueue.errors import InvalidFilterError
from pgqueue.events import AttemptEnded, AttemptsEnded, JobsClaimed, JobsEnqueued, Share, shares
from pgqueue.model.estimates import BOUNDS, BUCKETS, count_into, estimate_drain, percentiles
from pgqueue.model.jobs import JobStatus
from pgqueue.model.measures import Count, Drain, QueueMeasure, TaskCounts
from pgqueue.model.progress import Progress
from pgqueue.store import Lane

if TYPE_CHECKING:
    from conftest import Connection


async def measured(pgq: PgQueue, queue: str = "mail") -> QueueMeasure:
    """Return what one queue holds."""
    [found] = [each for each in await pgq.measure() if each.queue == queue]
    return found


async def written(pgq: PgQueue) -> None:
    """Write down what this process did, now and not within ten seconds."""
    await inside.stats(pgq).close()


# Queues


@pytest.mark.contract("BP10")
async def test_a_queue_is_measured_in_each_status(pgq: PgQueue) -> None:
    gate = anyio.Event()

    @pgq.task(queue="mail", max_retries=1, default_retry_delay=3600)
    async def work(do: str = "return") -> None:
        if do == "hold":
            await gate.wait()
        if do == "raise":
            raise ValueError(do)

    later = work.options(delay=3600)
    held = work.options(idempotency_key="k", on_conflict="coalesce")
    async with pgq.worker(queues=["mail"]):
        dead = await work.options(max_retries=0).enqueue("raise")
        retried = await work.enqueue("raise")
        await held.enqueue("hold")
        await pgq.enqueue_many([later.s(), later.s(), later.s()])
        await pgq.wait(dead.id)

        async def stands() -> bool:
            seen = await measured(pgq)
            return seen.retrying.value == seen.running.value == 1

        await eventually(stands)
        await pgq.pause(queue="mail")
        await held.enqueue("hold")
        await pgq.enqueue_many([work.s(), work.s()])
        seen = await measured(pgq)
        gate.set()

    assert await retried.status() is JobStatus.SCHEDULED
    assert (seen.pending, seen.scheduled, seen.retrying) == (Count(2), Count(3), Count(1))
    assert (seen.blocked, seen.running, seen.failed) == (Count(1), Count(1), Count(1))
    assert seen.is_paused
    assert seen.oldest_age is not None
    assert 0 <= seen.oldest_age < 60


@pytest.mark.contract("BP10")
async def test_a_queue_that_is_empty_is_measured_as_such(pgq: PgQueue) -> None:
    @pgq.task(queue="mail")
    async def work() -> None: ...

    await (await work.enqueue()).cancel()

    seen = await measured(pgq)

    none = Count(0)
    assert seen == QueueMeasure(
        "mail", False, none, none, none, none, none, none, None, 0.0, 0.0, None, None, None
    )  # fmt: skip


@pytest.mark.contract("BP10")
async def test_rates_and_durations_are_of_what_processes_have_written_down(pgq: PgQueue) -> None:
    @pgq.task(queue="mail", max_retries=0)
    async def work(number: int) -> None:
        if number == 0:
            raise ValueError

    jobs = await pgq.enqueue_many([work.s(number) for number in range(10)])
    async with pgq.worker(queues=["mail"]):
        for job in jobs:
            await pgq.wait(job.id)
    await pgq.enqueue_many([work.s(1), work.s(2)])
    await written(pgq)

    seen = await measured(pgq)

    # The least stretch that a rate is of is ten seconds.
    assert 0 < seen.finished_rate <= 1.0
    assert seen.enqueued_rate == pytest.approx(1.2 * seen.finished_rate)
    assert seen.wait is not None
    assert seen.run is not None
    assert 0 < seen.run.p50 <= seen.run.p95 <= seen.run.p99
    # Each of the ten was claimed once, and ran.
    assert [sum(each.jobs for each in buckets) for buckets in (seen.waits, seen.runs)] == [10, 10]
    [median] = [each for each in seen.runs if each.above < seen.run.p50 <= each.upto]
    assert median.jobs
    # More came than went.
    assert seen.drain == Drain(math.inf, math.inf, math.inf)


@pytest.mark.contract("BP10")
async def test_a_queue_that_becomes_less_says_when_it_will_be_empty(pgq: PgQueue, db: Connection) -> None:
    await pgq.enqueue_by_name("work", options={"queue": "mail"})
    await pgq.enqueue_by_name("work", options={"queue": "mail"})
    # Ten stretches of 30 seconds in which two jobs a minute ended.
    await db.execute(
        """
        insert into pgqueue.stat (id, at, seconds, queue, enqueued, claimed, succeeded, failed, cancelled,
                                  expired, retried, lost)
        select gen_random_uuid(), now() - (place * 30 + 15) * interval '1 second', 30, 'mail',
               0, 1, 1, 0, 0, 0, 0, 0
        from generate_series(0, 9) as place
        """
    )

    seen = await measured(pgq)

    assert seen.drain is not None
    assert seen.drain == pytest.approx((60.0, 60.0, 60.0), rel=0.02)


@pytest.mark.contract("BP10")
async def test_what_is_more_than_the_cap_is_estimated(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "CAP", 1000)
    await pgq.enqueue_by_name("work", options={"queue": "mail"})
    await pgq.enqueue_by_name("work", options={"queue": "small"})
    await db.execute("set pgqueue.writer = 'on'")
    await db.execute(
        """
        with lane as (select id from pgqueue.lane where queue = 'mail'),
        ready as (
            insert into pgqueue.ready (job_id, lane)
            select gen_random_uuid(), id from lane, generate_series(1, 5000)
        ),
        scheduled as (
            insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt)
            select gen_random_uuid(), now() + interval '1 day', id, n % 5 / 4
            from lane, generate_series(1, 10000) as n
        ),
        blocked as (
            insert into pgqueue.blocked (job_id, lane)
            select gen_random_uuid(), id from lane, generate_series(1, 3000)
        )
        insert into pgqueue.dead_letter (job_id, failed_at, task, queue, reason, fingerprint, attempt)
        select gen_random_uuid(), now(), 'work', 'mail', 'exception', 'same', 1 from generate_series(1, 2000)
        """
    )

    seen, small = await measured(pgq), await measured(pgq, "small")

    # Tables as small as these are looked at as a whole.
    assert (seen.pending, seen.scheduled) == (Count(5001, is_exact=False), Count(8000, is_exact=False))
    assert (seen.retrying, seen.blocked) == (Count(2000, is_exact=False), Count(3000, is_exact=False))
    assert seen.failed == Count(2000, is_exact=False)
    assert (small.pending, small.scheduled, small.failed) == (Count(1), Count(0), Count(0))


async def test_what_an_estimate_finds_is_never_less_than_what_was_counted(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "CAP", 100)
    monkeypatch.setattr(measuring, "SAMPLE_BLOCKS", 0)
    await pgq.enqueue_many([pgq.signature("work", options={"queue": "mail"}) for _ in range(150)])

    assert (await measured(pgq)).pending == Count(100, is_exact=False)


# Workers


@pytest.mark.contract("BP10")
async def test_workers_are_listed_with_what_they_run(pgq: PgQueue) -> None:
    gate = anyio.Event()

    @pgq.task(queue="mail")
    async def work(ctx: JobContext) -> None:
        ctx.progress(1, 4)
        await gate.wait()

    async with pgq.worker(queues=["mail"], concurrency=3, name="postman", prefetch_multiplier=2):
        jobs = [await work.enqueue() for _ in range(5)]

        async def is_busy() -> bool:
            [worker] = await pgq.list_workers()
            # Taken ahead, jobs are seen before the others have started.
            return worker.prefetched == 2 and [job.progress is not None for job in worker.jobs] == [True] * 3

        await eventually(is_busy)
        [worker] = await pgq.list_workers(jobs=2)
        [bare] = await pgq.list_workers(jobs=0)
        in_queue = await measured(pgq)
        gate.set()

    assert (worker.slots, worker.host, worker.pid) == (3, socket.gethostname(), os.getpid())
    assert (worker.name, worker.queues, worker.running) == ("postman", ["mail"], 3)
    assert [job.job_id for job in worker.jobs] == [jobs[0].id, jobs[1].id]
    assert {(job.task, job.queue, job.attempt, job.progress) for job in worker.jobs} == {
        ("work", "mail", 1, Progress(1, 4, None))
    }
    assert worker.is_alive
    assert (bare.running, list(bare.jobs)) == (3, [])
    assert (in_queue.running, in_queue.pending, in_queue.claimed) == (Count(3), Count(2), Count(2))
    assert await pgq.list_workers() == []


@pytest.mark.contract("BP10")
async def test_no_more_jobs_run_than_there_are_slots(pgq: PgQueue, db: Connection) -> None:
    """Their outcomes are written in batches, after their slots have others: those have ended."""
    lease, unlimited = uuid4(), uuid4()
    await db.execute("set pgqueue.writer = 'on'")
    for each, slots in ((lease, 4), (unlimited, None)):
        await db.execute(
            "insert into pgqueue.lease (id, worker, queues, expires_at, slots)"
            " values ($1, 'w', '{mail,other}', now() + interval '1 hour', $2)",
            each,
            slots,
        )
    for queue in ("mail", "other"):
        jobs = [pgq.signature("work", options={"queue": queue}) for _ in range(12)]
        ids = [job.id for job in await pgq.enqueue_many(jobs)]
        for each, started, claimed in ((lease, ids[:5], ids[5:8]), (unlimited, ids[8:11], ids[11:])):
            await db.execute(
                "with taken as (delete from pgqueue.ready where job_id = any($1::uuid[]) returning *)"
                " insert into pgqueue.running"
                " (job_id, lease_id, ready_at, position, lane, attempt, losses, started_at)"
                " select job_id, $2, ready_at, position, lane, 1, 0,"
                " case when job_id = any($3::uuid[]) then now() end from taken",
                [*started, *claimed],
                each,
                started,
            )

    workers = {worker.lease_id: worker for worker in await pgq.list_workers()}
    queues = {queue.queue: queue for queue in await pgq.measure()}

    assert (workers[lease].running, workers[lease].prefetched) == (4, 6)
    assert (workers[unlimited].running, workers[unlimited].prefetched) == (6, 2)
    assert sum(queue.running for queue in queues.values()) == Count(4 + 6)
    assert [queues[name].claimed for name in ("mail", "other")] == [Count(4), Count(4)]


async def test_a_worker_whose_lease_has_run_out_is_listed_as_dead(pgq: PgQueue, db: Connection) -> None:
    await db.execute(
        "insert into pgqueue.lease (id, worker, queues, renewed_at, expires_at)"
        " select gen_random_uuid(), 'w', '{mail}', now() - interval '20 s', now() - interval '5 s'"
    )

    [seen] = await pgq.list_workers()

    assert not seen.is_alive
    assert seen.lease_left < -4
    assert seen.lease_age > 19
    assert (seen.version, seen.loop_lag, seen.abandoned_threads, seen.running) == (None, None, None, 0)
    assert (seen.slots, seen.host, seen.pid, seen.memory) == (None, None, None, None)


async def test_a_renewal_says_in_what_time_the_event_loop_turns_and_what_memory_is_held(pgq: PgQueue) -> None:
    async def has_said() -> bool:
        [worker] = await pgq.list_workers()
        return worker.loop_lag is not None

    # The first renewal comes after a third of it.
    async with pgq.worker(lease_ttl=6) as worker:
        await worker.wait_ready()
        await eventually(has_said)
        [seen] = await pgq.list_workers()

    assert seen.loop_lag is not None
    assert seen.loop_lag >= 0
    assert seen.memory is not None
    assert 10**7 < seen.memory < 10**10


# History


@pytest.mark.contract("BP10")
async def test_history_is_what_was_done_stretch_by_stretch(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(queue="mail", max_retries=1, default_retry_delay=0)
    async def work(number: int) -> None:
        if number == 0:
            raise ValueError

    jobs = await pgq.enqueue_many([work.s(number) for number in range(4)])
    async with pgq.worker(queues=["mail"]):
        for job in jobs:
            await pgq.wait(job.id)
    await written(pgq)
    await db.execute("update pgqueue.stat set at = at - interval '30 minutes'")
    await pgq.enqueue_by_name("other", options={"queue": "other"})
    await written(pgq)

    periods = await pgq.history(span=3600, points=4)
    of_mail = await pgq.history("mail", span=3600, points=4)
    of_last_minute = await pgq.history(span=60, points=1)

    assert [period.seconds for period in periods] == [900.0] * 4
    assert [period.enqueued for period in periods] == [0, 4, 0, 1]
    assert [period.enqueued for period in of_mail] == [0, 4, 0, 0]
    [_, then, _, _] = of_mail
    assert (then.claimed, then.succeeded, then.failed, then.retried) == (5, 3, 1, 1)
    assert then.wait is not None
    assert then.run is not None
    assert [(period.enqueued, period.wait) for period in of_last_minute] == [(1, None)]
    assert [period.at for period in periods] == sorted(period.at for period in periods)


@pytest.mark.contract("W24")
async def test_a_task_is_measured_with_what_became_of_its_jobs(pgq: PgQueue, db: Connection) -> None:
    tried: list[int] = []

    @pgq.task(name="work", queue="mail", max_retries=1, default_retry_delay=0)
    async def work(number: int) -> None:
        tried.append(number)
        if number == 0 or (number == 1 and tried.count(1) == 1):
            raise ValueError

    jobs = await pgq.enqueue_many([work.s(number) for number in range(5)])
    others = [await pgq.enqueue_by_name("other", options={"queue": "mail"}) for _ in range(3)]
    waiting = await work.options(delay=3600).enqueue(7)
    async with pgq.worker(queues=["mail"]):
        for job in jobs:
            await pgq.wait(job.id)
    await db.execute("set pgqueue.writer = 'on'")
    # Run times of 1, 2, 3 and 10 seconds; of the one that was retried, the second attempt's.
    for job, seconds in zip(jobs[1:], (10, 1, 2, 3), strict=True):
        await db.execute(
            "update pgqueue.job"
            " set completed_at = coalesce(last_started_at, started_at) + $2 * interval '1 s' where id = $1",
            job.id,
            seconds,
        )

    found = await pgq.measure_task("work", span=3600, points=4)
    await db.execute("update pgqueue.job set created_at = now() - interval '2 hours'")
    later = await pgq.measure_task("work", span=3600)
    nothing = await pgq.measure_task("work " + "x" * 100)

    assert found.counts == TaskCounts(succeeded=3, retried=1, failed=1, cancelled=0, expired=0, live=1)
    assert found.counts.success_rate == 4 / 5
    assert found.run is not None
    assert found.run == pytest.approx((2.5, 8.95, 9.79))
    assert {each.upto: each.jobs for each in found.runs if each.jobs} == {2: 1, 5: 2, 20: 1}
    assert [each.counts.ended for each in found.periods] == [0, 0, 0, 5]
    assert (found.is_whole, found.looked) == (True, len(jobs) + len(others) + len([waiting]))
    assert (later.counts.ended, later.run, later.counts.success_rate) == (0, None, None)
    assert (nothing.counts.ended, len(nothing.periods)) == (0, 48)


@pytest.mark.contract("W24")
async def test_the_measure_of_a_task_says_when_it_has_not_looked_at_all(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "TASK_LOOKS", 3)
    await pgq.enqueue_many([pgq.signature("work") for _ in range(5)])

    found = await pgq.measure_task("work")

    assert (found.is_whole, found.looked, found.counts.live) == (False, 3, 3)
    for wrong in (0, math.nan, 31 * 86_400, "1"):
        with pytest.raises(InvalidFilterError, match="measure_task: span must be"):
            await pgq.measure_task("work", span=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidFilterError, match="measure_task: points must be from 1 to 1440, got True"):
        await pgq.measure_task("work", points=True)


@pytest.mark.parametrize("span", [0, -1, math.nan, math.inf, 86_401])
async def test_a_span_without_sense_is_refused(pgq: PgQueue, span: float) -> None:
    with pytest.raises(InvalidFilterError, match="history: span must be"):
        await pgq.history(span=span)


async def test_a_number_of_points_without_sense_is_refused(pgq: PgQueue) -> None:
    with pytest.raises(InvalidFilterError, match="history: points must be from 1 to 1440, got 0"):
        await pgq.history(points=0)
    with pytest.raises(InvalidFilterError, match=r"list_workers: jobs must be .* got -1"):
        await pgq.list_workers(jobs=-1)


async def test_a_process_that_does_nothing_writes_nothing(dsn: str, db: Connection) -> None:
    async with PgQueue(dsn) as pgq, pgq.worker() as worker:
        await worker.wait_ready()

    assert await db.fetchval("select count(*) from pgqueue.stat") == 0


async def test_what_was_done_is_written_down_when_a_pgqueue_closes(dsn: str, db: Connection) -> None:
    async with PgQueue(dsn) as pgq:
        await pgq.enqueue_by_name("work")

    assert await db.fetchval("select sum(enqueued) from pgqueue.stat") == 1


async def test_what_could_not_be_written_is_written_once_when_it_can_be(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = inside.store(pgq).record_stats

    async def lose_answer(*args: object) -> None:
        await real(*args)  # type: ignore[arg-type]  # as they come
        raise ConnectionResetError("the answer is lost")

    monkeypatch.setattr(inside.store(pgq), "record_stats", lose_answer)
    await pgq.enqueue_by_name("work")
    await written(pgq)
    await pgq.enqueue_by_name("work")
    await written(pgq)
    monkeypatch.setattr(inside.store(pgq), "record_stats", real)

    await written(pgq)
    await written(pgq)

    assert [row[0] for row in await db.fetch("select enqueued from pgqueue.stat")] == [1, 1]


@pytest.mark.contract("W8")
async def test_a_queue_whose_counts_cannot_be_written_costs_no_other_its_own(
    pgq: PgQueue, db: Connection
) -> None:
    await db.execute("alter table pgqueue.stat add constraint refused check (queue <> 'bad')")

    for queue in ("good", "bad", "better"):
        await pgq.enqueue_by_name("work", options={"queue": queue})
    await written(pgq)

    assert {row[0] for row in await db.fetch("select queue from pgqueue.stat")} == {"good", "better"}


async def test_jobs_do_not_suffer_where_nothing_can_be_written_down(
    pgq: PgQueue, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await db.execute("alter table pgqueue.stat add constraint closed check (false)")

    @pgq.task
    async def work() -> str:
        return "done"

    async with pgq.worker():
        for _ in range(2):
            assert await (await work.enqueue()).result(timeout=60) == "done"
            await written(pgq)

    said = [record.getMessage() for record in caplog.records if record.name == "pgqueue.stats"]
    assert len(said) == 1
    assert said[0].startswith("statistics cannot be written: RefusedByDatabaseError: ")
    assert "CheckViolationError: new row for relation" in said[0]


async def test_what_is_older_than_a_day_is_removed(pgq: PgQueue, db: Connection) -> None:
    await pgq.enqueue_by_name("work")
    await written(pgq)
    await pgq.enqueue_by_name("work")
    await written(pgq)
    await db.execute(
        "update pgqueue.stat set at = at - interval '25 h' where id = (select id from pgqueue.stat limit 1)"
    )

    async def is_gone() -> bool:
        return bool(await db.fetchval("select count(*) = 1 from pgqueue.stat"))

    async with pgq.worker(queues=["none"]):
        await eventually(is_gone)


@pytest.mark.contract("BP10")
async def test_what_is_not_new_is_kept_by_the_minute_and_not_by_the_process(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(queue="mail")
    async def work() -> None: ...

    async with pgq.worker(queues=["mail"]):
        for _ in range(3):
            await pgq.wait((await work.enqueue()).id)
            await written(pgq)
    await pgq.enqueue_by_name("other", options={"queue": "other"})
    await written(pgq)
    # All in one minute, whenever they were written.
    await db.execute("update pgqueue.stat set at = date_trunc('minute', now()) - interval '20 minutes'")
    await pgq.enqueue_by_name("other", options={"queue": "other"})
    await written(pgq)
    before = await pgq.history(points=1)

    async def is_merged() -> bool:
        return bool(await db.fetchval("select count(*) = 3 from pgqueue.stat"))

    async with pgq.worker(queues=["none"]):
        await eventually(is_merged)
    after = await pgq.history(points=1)

    kept = await db.fetch("select queue, merged, enqueued from pgqueue.stat order by at, queue")
    assert [tuple(row) for row in kept] == [("mail", True, 3), ("other", True, 1), ("other", False, 1)]
    assert [replace(period, at=before[0].at) for period in after] == before
    assert before[0].enqueued == 5
    assert before[0].run is not None


# Counting


def ended(queue: str, status: JobStatus, seconds: float = 0.1) -> AttemptEnded:
    """Return an attempt that has ended."""
    return AttemptEnded(uuid4(), "work", queue, 1, status, None, seconds)


def test_events_are_counted_by_queue() -> None:
    tallies = Tallies()

    tallies.observe(JobsEnqueued({("one", "a"): 1, ("other", "a"): 2, ("one", "b"): 2}))
    tallies.observe(JobsClaimed([claimed_job(waited=0.1), claimed_job(waited=0.2)], {1: Lane(1, "a", 0, "")}))
    tallies.observe(AttemptsEnded([ended("a", JobStatus.SUCCEEDED)] * 100, is_success=True))
    for status in JobStatus:
        tallies.observe(AttemptsEnded([ended("b", status)]))
    found = tallies.take()

    assert (found["a"].enqueued, found["a"].claimed, found["a"].succeeded) == (3, 2, 100)
    assert (sum(found["a"].waits), sum(found["a"].runs)) == (2, 100)
    b = found["b"]
    assert (b.enqueued, b.succeeded, b.failed, b.cancelled, b.expired, b.retried) == (2, 1, 1, 1, 1, 1)
    assert sum(b.runs) == 5
    assert not tallies


def test_a_success_is_counted_without_making_its_event() -> None:
    tallies = Tallies()

    class Committed(NamedTuple):
        """Has what is counted, and nothing that an event of its own would be made of."""

        lane: Lane
        seconds: float

    committed: Any = [Committed(Lane(1, "a", 0, ""), 0.1)]
    tallies.observe(AttemptsEnded(committed=committed, is_success=True))

    assert tallies.take()["a"].succeeded == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e6)), max_size=200))
def test_shares_are_of_all_and_look_at_few(batch: list[tuple[str, float]]) -> None:
    found = shares(batch, lambda member: member[0], lambda member: member[1])

    assert {queue: share.size for queue, share in found.items()} == {
        queue: [each[0] for each in batch].count(queue) for queue, _ in batch
    }
    looked = [seconds for share in found.values() for seconds in share.seconds]
    assert len(looked) <= 8
    assert len(batch) > 8 or sorted(looked) == sorted(seconds for _, seconds in batch)
    assert not batch or looked


def test_where_all_are_of_one_key_no_member_is_asked_for_it() -> None:
    def ask(_member: float) -> str:
        raise AssertionError("asked")

    assert shares([0.5] * 100, ask, float, keys=["a"]) == {"a": Share(100, [0.5] * 8)}
    assert shares([], ask, float, keys=["a"]) == {}


# What follows from counts


seconds = st.floats(0, 1e9)


@given(st.lists(seconds, min_size=1, max_size=50), st.integers(0, 1000))
def test_a_sample_stands_for_all(sample: list[float], more: int) -> None:
    counts = [0] * BUCKETS

    count_into(counts, sample, len(sample) + more)

    assert sum(counts) == len(sample) + more
    assert min(counts) >= 0


@given(st.lists(seconds | st.sampled_from(BOUNDS), min_size=1, max_size=200))
@example([0.005] * 3 + [1e6] * 3)
@example([0.01] * 57 + [1e6] * 57)
def test_percentiles_are_within_a_bucket_of_the_true_ones(durations: list[float]) -> None:
    counts = [0] * BUCKETS
    count_into(counts, durations, len(durations))

    found = percentiles(counts)

    assert found is not None
    assert 0 <= found.p50 <= found.p95 <= found.p99 <= BOUNDS[-1]
    ordered = sorted(durations)
    for share, estimate in zip((0.50, 0.95, 0.99), found, strict=True):
        true = ordered[math.ceil(share * len(ordered)) - 1]
        low = max((bound for bound in (0.0, *BOUNDS) if bound < true), default=0.0)
        high = min((bound for bound in BOUNDS if bound >= true), default=BOUNDS[-1])
        assert low <= estimate <= high


@pytest.mark.contract("W24")
def test_the_percentiles_of_one_job_are_that_job() -> None:
    counts = [0] * BUCKETS
    count_into(counts, [0.13], 1)

    assert percentiles(counts, 0.13) == (0.13, 0.13, 0.13)
    # An older process did not say.
    assert percentiles(counts) == pytest.approx((0.15, 0.15, 0.15))
    counts[0] += 1
    assert percentiles(counts, 0.13) == percentiles(counts)


@pytest.mark.contract("W24")
async def test_a_queue_with_one_job_shows_how_long_that_one_took(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(queue="mail")
    async def work() -> None:
        await anyio.sleep(0.013)

    async with pgq.worker(queues=["mail"]):
        job = await work.enqueue()
        await pgq.wait(job.id)
    await written(pgq)
    await db.execute("update pgqueue.stat set at = at - interval '11 minutes'")
    [period] = await pgq.history("mail", span=3600, points=1)
    async with inside.database(pgq).acquire() as connection:
        await inside.store(pgq).merge_stats(connection, 100)
    [merged] = await pgq.history("mail", span=3600, points=1)
    await db.execute("update pgqueue.stat set at = now()")
    queue = await measured(pgq)
    stored = await db.fetchval("select max(first_run) from pgqueue.stat where queue = 'mail'")

    assert period.run is not None
    assert len(set(period.run)) == 1
    assert 0.013 <= period.run.p50 == stored
    assert (merged.run, merged.wait) == (period.run, period.wait)
    assert (queue.run, queue.wait) == (period.run, period.wait)
    await db.execute("update pgqueue.stat set first_run = 'NaN', first_wait = -1")
    hostile = await measured(pgq)
    assert hostile.run is not None
    assert hostile.wait is not None
    assert 0 <= hostile.run.p50 < 10


def test_percentiles_of_nothing_are_not_known() -> None:
    assert percentiles([0] * BUCKETS) is None
    assert percentiles([]) is None


def test_percentiles_lie_in_their_bucket_where_their_rank_does() -> None:
    counts = [0] * BUCKETS
    # 100 between 0.1 and 0.2 seconds.
    counts[BOUNDS.index(0.2)] = 100

    assert percentiles(counts) == pytest.approx((0.15, 0.195, 0.199))


rates = st.lists(st.floats(0, 1e7), max_size=12)


@pytest.mark.contract("BP10")
@given(st.integers(-5, 10**10), rates, rates)
def test_a_drain_is_never_without_sense(pending: int, finished: list[float], enqueued: list[float]) -> None:
    drain = estimate_drain(pending, finished, enqueued)

    if pending <= 0 or not any(finished):
        assert drain is None
    else:
        assert drain is not None
        assert not any(math.isnan(each) for each in drain)
        assert 0 < drain.low <= drain.likely <= drain.high


@pytest.mark.parametrize(
    ("pending", "finished", "enqueued", "drain"),
    [
        pytest.param(0, [1.0], [0.0], None, id="nothing waits"),
        pytest.param(10, [], [], None, id="nothing is known"),
        pytest.param(10, [0.0, 0.0], [5.0, 5.0], None, id="nothing ends"),
        pytest.param(100, [10.0, 10.0], [0.0, 0.0], Drain(10, 10, 10), id="steady"),
        pytest.param(100, [10.0, 10.0], [5.0, 5.0], Drain(20, 20, 20), id="steady, while more come"),
        pytest.param(100, [5.0, 5.0], [9.0, 9.0], Drain(math.inf, math.inf, math.inf), id="growing"),
        pytest.param(
            100, [10.0] * 4, [0.0, 0.0, 0.0, 80.0], Drain(10, 10, math.inf), id="a burst that is over"
        ),
        pytest.param(100, [5.0, 15.0], [0.0, 0.0], Drain(100 / 15, 10, 20), id="uneven"),
    ],
)
def test_a_drain_follows_from_what_came_and_went(
    pending: int, finished: list[float], enqueued: list[float], drain: Drain | None
) -> None:
    found = estimate_drain(pending, finished, enqueued)

    assert found == (drain if drain is None else pytest.approx(drain))


@pytest.mark.contract("W13")
async def test_names_that_clients_make_up_cost_neither_claims_nor_pages(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(queue="zebra")
    async def work() -> str:
        return "done"

    await db.execute(
        "insert into pgqueue.lane (queue, priority) "
        "select 'made up ' || n, 0 from generate_series(1, 20000) as n"
    )
    await work.options(queue="yak").enqueue()
    await pgq.pause(queue="yak")
    job = await work.enqueue()
    async with pgq.worker() as worker:
        assert await job.result(timeout=60) == "done"
        measures = {each.queue: each for each in await pgq.measure()}
        known = inside.claimer_of(worker).book.ids

    # Those that somebody serves or has paused are among them, whatever their names.
    assert len(measures) == 1000
    assert {"zebra", "yak"} <= measures.keys()
    assert measures["yak"].is_paused
    assert measures["yak"].pending.value == 1
    assert len(known) <= 2, "a worker walks the lanes of its own queues"

    # Their lanes take no room on pages once they were removed.
    await db.execute("update pgqueue.lane set removed_at = now() where queue like 'made up %'")
    assert {each.queue for each in await pgq.measure()} == {"default", "yak", "zebra"}
