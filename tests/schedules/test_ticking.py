"""Schedules in the database: one job a tick, whatever workers do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from kit import inside
from kit.waiting import eventually

from pgqueue import (
    ConfigurationError,
    InvalidArgumentsError,
    InvalidOptionError,
    JobFilter,
    JobStatus,
    PgQueue,
    ScheduleNotFoundError,
)
from pgqueue.metrics import Metrics
from pgqueue.model.schedules import ScheduleMeasure
from pgqueue.schedules import cron as cron_module
from pgqueue.schedules.definition import check_name
from pgqueue.schedules.ticks import Overlap

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P8.10")

HOUR = timedelta(hours=1)
OVERLAPS: tuple[Overlap, ...] = ("allow", "skip", "queue", "replace")
TICKING = {"find_next_tick", "take_due", "record_ticks", "read_ticks", "read_schedules"}


async def due_since(db: Connection, name: str, seconds: float = 1.0) -> None:
    """Have a schedule be due for so long."""
    await db.execute(
        "update pgqueue.schedule set due_at = now() - make_interval(secs => $2),"
        " next_at = now() - make_interval(secs => $2) where name = $1",
        name,
        seconds,
    )


async def count(db: Connection, task: str) -> int:
    return int(await db.fetchval("select count(*) from pgqueue.job where task = $1", task))


def ticked(pgq: PgQueue, name: str, times: int = 1) -> Any:
    async def has_ticked() -> bool:
        return len(await pgq.schedules.history(name)) >= times

    return has_ticked


async def test_a_declared_schedule_is_written_when_a_worker_starts_and_ticks(
    pgq: PgQueue, db: Connection
) -> None:
    seen: list[datetime] = []

    @pgq.schedule("0 9 * * 1-5", timezone="Europe/Paris", tick_argument="at", kwargs={"shop": 7})
    @pgq.task(queue="reports")
    async def report(shop: int, at: datetime) -> None:
        seen.append(at)

    pgq.queue("reports", priority=3)
    async with pgq.worker():
        await eventually(lambda: _exists(pgq, "report"))
        schedule = await pgq.schedules.get("report")
        await due_since(db, "report", 0.5)
        await eventually(ticked(pgq, "report"))
        await eventually(lambda: _is(bool(seen)))

    [tick] = await pgq.schedules.history("report")
    assert tick.job_id is not None
    job = await pgq.get(tick.job_id)
    assert (job.queue, job.priority, tick.outcome) == ("reports", 3, "enqueued")
    assert seen == [tick.at]
    assert schedule.words == "At 09:00 on Monday through Friday (Europe/Paris)"
    assert [f"{each:%H:%M}" for each in schedule.next_times] == ["09:00"] * 5
    assert schedule.is_declared


async def _exists(pgq: PgQueue, name: str) -> bool:
    return any(each.name == name for each in await pgq.schedules.list())


async def _is(value: bool) -> bool:
    return value


async def test_any_number_of_workers_make_one_job_a_tick(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work() -> None: ...

    names = [f"s{n}" for n in range(20)]
    for name in names:
        await pgq.schedules.create(name, work.s(), every=1, misfire="all")
        await due_since(db, name, 10)
    workers = [pgq.worker() for _ in range(4)]
    for worker in workers:
        worker.start()
    for name in names:
        await eventually(ticked(pgq, name, 10))
    for worker in workers:
        worker.stop()
        await worker.wait_stopped()

    rows = await db.fetch(
        "select schedule, count(*) as ticks, count(distinct job_id) as jobs from pgqueue.tick group by 1"
    )
    assert all(row["ticks"] == row["jobs"] for row in rows)
    assert await count(db, "work") == sum(row["ticks"] for row in rows)
    gaps = await db.fetch(
        "select at - lag(at) over (partition by schedule order by at) as gap from pgqueue.tick"
    )
    # The tick that the test planted lies off the seconds.
    assert {gap["gap"] for gap in gaps if gap["gap"] and gap["gap"].microseconds == 0} == {
        timedelta(seconds=1)
    }


@pytest.mark.parametrize(
    ("overlap", "outcome"),
    [("allow", "enqueued"), ("skip", "skipped"), ("queue", "queued"), ("replace", "queued")],
)
async def test_while_the_job_before_runs_the_overlap_policy_says_what_a_tick_does(
    pgq: PgQueue, overlap: Any, outcome: str
) -> None:
    started, may_end = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def work() -> None:
        started.set()
        await may_end.wait()

    await pgq.schedules.create("nightly", work.s(), every=86400, overlap=overlap)
    async with pgq.worker():
        first = await pgq.schedules.run_now("nightly")
        assert first is not None
        await started.wait()
        second = await pgq.schedules.run_now("nightly")
        [tick, _] = await pgq.schedules.history("nightly")
        assert (tick.outcome, tick.job_id) == (outcome, second)
        third = await pgq.schedules.run_now("nightly")
        if overlap == "replace":
            await eventually(lambda: _has(pgq, first, JobStatus.CANCELLED))
            # The one that waited has the newest tick's arguments, and stays one job.
            assert third == second
        if overlap in ("skip", "queue"):
            assert third is None
        may_end.set()
        await eventually(lambda: _has(pgq, second or first, JobStatus.SUCCEEDED))
        fourth = await pgq.schedules.run_now("nightly")
        assert fourth not in (None, first, second)


async def _has(pgq: PgQueue, job_id: Any, status: JobStatus) -> bool:
    return (await pgq.get(job_id)).status is status


async def test_an_operator_makes_edits_pauses_resumes_and_removes_a_schedule(
    pgq: PgQueue, db: Connection
) -> None:
    call = pgq.signature("elsewhere", shop=7)
    made = await pgq.schedules.create("x", call, every=HOUR, actor="ann", reason="trial")
    assert (made.task, made.arguments, made.every, made.actor, made.is_declared) == (
        "elsewhere", {"shop": 7}, 3600.0, "ann", False,
    )  # fmt: skip
    with pytest.raises(InvalidOptionError, match="exists already"):
        await pgq.schedules.create("x", call, every=HOUR)

    edited = await pgq.schedules.edit("x", cron="0 4 * * *", timezone="Europe/Paris", reason="later")
    assert (edited.cron, edited.every, edited.arguments, edited.reason) == (
        "0 4 * * *",
        None,
        {"shop": 7},
        "later",
    )
    assert edited.edited_at is not None
    same = await pgq.schedules.edit("x", misfire="all")
    assert (same.next_at, same.misfire) == (edited.next_at, "all")

    assert await pgq.schedules.pause("x")
    assert not await pgq.schedules.pause("x")
    await due_since(db, "x", 7200)
    assert await pgq.schedules.resume("x")
    resumed = await pgq.schedules.get("x")
    assert resumed.next_at is not None
    assert resumed.next_at > datetime.now(UTC) - HOUR
    await pgq.schedules.run_now("x", actor="ann", reason="a late file")
    [ran, *_] = await pgq.schedules.history("x")
    assert (ran.outcome, ran.actor, ran.reason) == ("enqueued", "ann", "a late file")
    assert await pgq.schedules.delete("x", actor="bob", reason="moved")
    assert not await pgq.schedules.delete("x", actor="cid")
    # What it was went, and who did that is kept for a month, until another one is deleted.
    [gone] = await pgq.schedules.history("x")
    assert (gone.outcome, gone.job_id, gone.actor, gone.reason) == ("deleted", None, "bob", "moved")
    await db.execute("update pgqueue.tick set recorded_at = now() - interval '32 days'")
    await pgq.schedules.create("y", pgq.signature("z"), every=60)
    await pgq.schedules.delete("y")
    assert await pgq.schedules.history("x") == ()
    for refused in (pgq.schedules.get, pgq.schedules.pause, pgq.schedules.run_now, pgq.schedules.edit):
        with pytest.raises(ScheduleNotFoundError):
            await refused("x")


async def test_what_an_operator_has_edited_is_not_undone_by_a_deploy_and_the_rest_follows_the_code(
    pgq: PgQueue, dsn: str
) -> None:
    async def deploy(every: int) -> None:
        async with PgQueue(dsn) as version:

            @version.schedule(every=every, name="a")
            @version.schedule(every=every, name="b")
            @version.task
            async def work() -> None: ...

            await inside.write_declared(version)

    await deploy(3600)
    await pgq.schedules.edit("b", every=60)
    await deploy(7200)

    a, b = await pgq.schedules.list()
    assert (a.every, a.edited_at, b.every) == (7200.0, None, 60.0)
    assert a.next_at is not None


async def test_of_two_versions_of_the_code_at_work_the_one_that_started_last_says_how_a_schedule_is(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    def version(every: int) -> PgQueue:
        made = PgQueue(dsn)

        @made.schedule(every=every, name="a")
        @made.task
        async def work() -> None: ...

        return made

    async def say(of: PgQueue) -> float | None:
        await db.execute("update pgqueue.schedule set declared_at = now() - interval '1 hour'")
        await inside.write_declared(of)
        return (await pgq.schedules.get("a")).every

    async with version(60) as old, version(120) as new:
        assert [await say(each) for each in (old, new)] == [60.0, 120.0]
        at = (await pgq.schedules.get("a")).next_at
        # As all of them do, minute by minute.
        assert [await say(each) for each in (old, new, old)] == [120.0] * 3
        assert (await pgq.schedules.get("a")).next_at == at
        assert not (await pgq.schedules.get("a")).is_orphaned
        # Rolled back.
        async with version(60) as again:
            assert [await say(each) for each in (again, new, old)] == [60.0] * 3


async def test_a_schedule_that_no_worker_declares_is_shown_as_orphaned(pgq: PgQueue, db: Connection) -> None:
    @pgq.schedule(every=3600)
    @pgq.task
    async def work() -> None: ...

    await inside.write_declared(pgq)
    assert not (await pgq.schedules.get("work")).is_orphaned
    await db.execute("update pgqueue.schedule set declared_at = now() - interval '1 hour'")
    assert (await pgq.schedules.get("work")).is_orphaned
    await inside.write_declared(pgq)
    assert not (await pgq.schedules.get("work")).is_orphaned


@pytest.mark.contract("W8")
async def test_a_schedule_that_cannot_tick_is_set_aside_with_its_error_and_the_others_tick(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task
    async def work() -> None: ...

    for name in ("a", "b", "c", "d"):
        await pgq.schedules.create(name, work.s(), every=86400)
        await due_since(db, name)
    await db.execute("update pgqueue.schedule set every = 'NaN' where name = 'a'")
    await db.execute(
        """update pgqueue.schedule set template = '{"queue": "x", "priority": 99999}' where name = 'b'"""
    )
    await db.execute("update pgqueue.schedule set missed = 9223372036854775807, every = 1 where name = 'c'")
    async with pgq.worker():
        await eventually(ticked(pgq, "d"))
        await eventually(lambda: _failed(pgq, "abc"))
        await db.execute("update pgqueue.schedule set every = 86400, due_at = now() where name = 'a'")
        await eventually(ticked(pgq, "a"))
    mended = await pgq.schedules.get("a")
    assert (mended.error, mended.failures) == (None, 0)


async def _failed(pgq: PgQueue, names: str) -> bool:
    return all(each.error and each.failures for each in await pgq.schedules.list() if each.name in names)


async def test_jitter_spreads_the_jobs_of_a_tick(pgq: PgQueue, db: Connection) -> None:
    for n in range(5):
        await pgq.schedules.create(f"s{n}", pgq.signature("work"), every=86400, jitter=HOUR)
        await due_since(db, f"s{n}")
    async with pgq.worker():
        for n in range(5):
            await eventually(ticked(pgq, f"s{n}"))
    times = [job.run_at for job in (await pgq.jobs(JobFilter(task="work"))).jobs]
    assert len(set(times)) == 5


async def test_a_time_comes_once_and_then_the_schedule_has_ended(pgq: PgQueue, db: Connection) -> None:
    soon = await pgq.now() + timedelta(seconds=3)
    await pgq.schedules.create("once", pgq.signature("work"), at=soon)
    async with pgq.worker():
        await eventually(ticked(pgq, "once"))
    schedule = await pgq.schedules.get("once")
    assert (schedule.next_at, schedule.last_at) == (None, soon)
    assert await count(db, "work") == 1
    with pytest.raises(InvalidOptionError, match="never tick"):
        await pgq.schedules.create("late", pgq.signature("work"), at=soon)


async def test_a_worker_without_the_library_leaves_cron_to_others(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pgq.schedules.create("by cron", pgq.signature("work"), cron="* * * * *")
    await pgq.schedules.create("by interval", pgq.signature("work"), every=3600)
    await due_since(db, "by cron", 5)
    await due_since(db, "by interval")
    monkeypatch.setattr(cron_module, "_library", lambda: None)
    async with pgq.worker():
        await eventually(ticked(pgq, "by interval"))
    assert not await pgq.schedules.history("by cron")
    assert (await pgq.schedules.get("by cron")).words.startswith("* * * * * (UTC; pgqueue-asyncio[schedules]")


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 10_000, "\ud800", 5, None])
async def test_a_name_that_cannot_be_stored_is_refused_at_every_door(pgq: PgQueue, name: Any) -> None:
    schedules = pgq.schedules
    with pytest.raises(InvalidOptionError):
        check_name(name)
    with pytest.raises(InvalidOptionError):
        await schedules.create(name, pgq.signature("work"), every=5)
    for call in (schedules.edit, schedules.pause, schedules.resume, schedules.run_now, schedules.delete,
                 schedules.get, schedules.history):  # fmt: skip
        with pytest.raises(InvalidOptionError):
            await call(name)


async def test_what_does_not_fit_is_refused_at_the_call(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work(n: int, at: datetime) -> None: ...

    create = pgq.schedules.create
    with pytest.raises(InvalidArgumentsError):
        await create("x", work.s("x"), every=5, tick_argument="at")  # type: ignore[call-overload]
    with pytest.raises(InvalidArgumentsError):
        await create("x", work.s(1), every=5, tick_argument="no")  # type: ignore[call-overload]
    wrong: list[dict[str, Any]] = [
        {"misfire": "x"},
        {"overlap": "x"},
        {"catch_up": -1},
        {"jitter": float("nan")},
    ]
    for each in wrong:
        with pytest.raises(InvalidOptionError):
            await create("x", pgq.signature("other"), every=5, **each)
    given: list[Any] = [{"id": "0" * 32}, {"idempotency_key": "k"}, {"run_at": datetime.now(UTC)}]
    for options in given:
        with pytest.raises(InvalidOptionError):
            await create("x", pgq.signature("other", options=options), every=5)
    with pytest.raises(InvalidOptionError):
        await create("x", "work", every=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"above @pgq\.task"):
        pgq.schedule(every=5)(test_what_does_not_fit_is_refused_at_the_call)  # type: ignore[type-var]
    pgq.schedule(every=5, kwargs={"n": 1}, tick_argument="at")(work)
    with pytest.raises(InvalidOptionError, match="already declared"):
        pgq.schedule(every=5, kwargs={"n": 1}, tick_argument="at")(work)
    assert await db.fetchval("select count(*) from pgqueue.schedule") == 0


@pytest.mark.contract("W8")
async def test_schedules_tick_although_what_code_declares_cannot_be_written(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.schedule(every=3600)
    @pgq.task
    async def work() -> None: ...

    await inside.write_declared(pgq)
    await pgq.schedules.create("made", work.s(), every=1)
    inside.break_statements(inside.store(pgq), "schedules", but=TICKING)
    async with pgq.worker():
        await eventually(ticked(pgq, "made", 3))


async def test_a_schedule_ticks_into_a_new_queue_over_the_only_connection(dsn: str) -> None:
    async with PgQueue(dsn, max_connections=1) as pgq:
        for overlap in OVERLAPS:
            call = pgq.signature("work", options={"queue": overlap})
            await pgq.schedules.create(overlap, call, every=3600, overlap=overlap)
            job_id = await asyncio.wait_for(pgq.schedules.run_now(overlap), 30)
            assert job_id is not None
            assert (await pgq.get(job_id)).queue == overlap


async def test_what_does_not_tick_is_measured_whatever_is_stored(pgq: PgQueue, db: Connection) -> None:
    for name in ("fails", "late", "paused", "strange"):
        await pgq.schedules.create(name, pgq.signature("work"), every=3600)
    assert await pgq.schedules.measure() == ScheduleMeasure(4, 0, 0, 0.0)
    await due_since(db, "late", 500)
    await db.execute("update pgqueue.schedule set error = 'no' where name = 'fails'")
    await due_since(db, "paused", 9000)
    await pgq.schedules.pause("paused")

    found = await pgq.schedules.measure()
    metrics = Metrics(pgq)
    await metrics.measure()
    await db.execute("update pgqueue.schedule set next_at = '-infinity' where name = 'strange'")
    strange = await pgq.schedules.measure()
    await db.execute("update pgqueue.schedule set next_at = 'infinity' where name = 'strange'")

    assert (found.active, found.paused, found.failing) == (3, 1, 1)
    assert 500 <= found.overdue < 600
    assert strange.overdue > 3e10
    assert (await pgq.schedules.measure()).overdue < 600
    of = metrics.registry.get_sample_value
    assert [of("pgqueue_schedules", {"state": each}) for each in ("active", "paused", "failing")] == [3, 1, 1]
    assert (of("pgqueue_schedule_overdue_seconds") or 0) >= 500


async def test_a_tick_that_comes_again_because_the_clock_was_set_back_makes_no_second_job(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task
    async def work() -> None: ...

    async def has_gone_on(name: str) -> bool:
        return bool(await db.fetchval("select next_at > now() from pgqueue.schedule where name = $1", name))

    for name in OVERLAPS:
        await pgq.schedules.create(name, work.s(), every=3600, overlap=name)
    async with pgq.worker():
        at = await db.fetchval("select now() - interval '2 s'")
        for _ in range(2):
            await db.execute("update pgqueue.schedule set due_at = $1, next_at = $1", at)
            for name in OVERLAPS:
                await eventually(lambda: has_gone_on(name))  # noqa: B023

    for name in OVERLAPS:
        [tick] = await pgq.schedules.history(name)
        assert tick.at == at
        assert (await pgq.schedules.get(name)).error is None
    assert await count(db, "work") == len(OVERLAPS)

    # From far ahead.
    await db.execute("update pgqueue.schedule set due_at = $1, next_at = $1", at + 9000 * HOUR)
    assert await pgq.schedules.pause("allow")
    assert await pgq.schedules.resume("allow")
    goes_on = (await pgq.schedules.get("allow")).next_at
    assert goes_on is not None
    assert goes_on - at < 2 * HOUR
