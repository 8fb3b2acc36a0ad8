"""Pausing queues and tasks, and changing options, while workers run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest
from kit import inside
from kit.faults import blocked_session, ghost, renewed, until_blocked
from kit.waiting import eventually, holds

from pgqueue import ConfigurationError, InvalidOptionError, JobFailed, JobStatus, NotOpenError, PgQueue
from pgqueue.events import AttemptsEnded, Event, JobsClaimed
from pgqueue.options.levels import Options
from pgqueue.options.run_time import Settings

if TYPE_CHECKING:
    from conftest import Connection


def declare(pgq: PgQueue) -> tuple[list[str], asyncio.Event, asyncio.Event]:
    """Declare tasks `work` and `other`, whose runs are listed, and `hold`, which waits to be let go."""
    runs: list[str] = []
    started, go = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def work(name: str) -> None:
        runs.append(name)

    @pgq.task
    async def other(name: str) -> None:
        runs.append(name)

    @pgq.task
    async def hold() -> str:
        started.set()
        await go.wait()
        return "held"

    return runs, started, go


@pytest.mark.contract("P4.11")
async def test_nothing_of_a_paused_queue_starts_while_running_jobs_finish(pgq: PgQueue) -> None:
    runs, started, go = declare(pgq)
    async with pgq.worker(queues=["default", "mail"]):
        running = await pgq.enqueue_by_name("hold", options={"queue": "mail"})
        await started.wait()
        assert await pgq.pause(queue="mail", actor="ann", reason="the relay is down")
        waiting = [
            await pgq.enqueue_by_name("work", name, options={"queue": "mail", "priority": priority})
            # Lanes that are made after the pause, too.
            for name, priority in (("a", 0), ("b", 7))
        ]
        go.set()
        assert await running.result(timeout=60) == "held"
        for _ in range(20):
            await (await pgq.enqueue_by_name("other", "elsewhere")).result(timeout=60)
        statuses = [await job.status() for job in waiting]
        ran_meanwhile = list(runs)
        assert await pgq.resume(queue="mail")
        for job in waiting:
            await job.result(timeout=60)

    assert statuses == [JobStatus.PENDING] * 2
    assert ran_meanwhile == ["elsewhere"] * 20
    assert sorted(runs[20:]) == ["a", "b"]


@pytest.mark.contract("P4.11")
async def test_nothing_of_a_paused_task_starts_while_others_of_its_queue_do(
    pgq: PgQueue, db: Connection
) -> None:
    runs, _, _ = declare(pgq)
    heard: list[Event] = []
    pgq.observe(heard.append)
    await pgq.pause(task="work")
    waiting = [await pgq.enqueue_by_name("work", str(number)) for number in range(10)]
    async with pgq.worker(concurrency=2):
        for _ in range(20):
            await (await pgq.enqueue_by_name("other", "other")).result(timeout=60)
        await eventually(lambda: is_aside(db, 10))
        ran_meanwhile, statuses = list(runs), [await job.refresh() for job in waiting]
        claims = sum(len(event.waited) for event in heard if isinstance(event, JobsClaimed))
        await pgq.resume(task="work")
        for job in waiting:
            await job.result(timeout=60)

    assert ran_meanwhile == ["other"] * 20
    assert {(job.status, job.attempt) for job in statuses} == {(JobStatus.PENDING, 0)}
    assert all(await asyncio.gather(*(succeeded_at_first(pgq, job.id) for job in waiting)))
    # Each was claimed once to be put aside, and none again while it was paused.
    assert claims == 30
    reasons = [each.reason for event in heard if isinstance(event, AttemptsEnded) for each in event.attempts]
    assert reasons.count("paused") == 10


@pytest.mark.contract("P4.11")
async def test_a_worker_that_runs_heeds_the_pause_of_a_task(pgq: PgQueue, db: Connection) -> None:
    runs, _, _ = declare(pgq)
    async with pgq.worker() as worker:
        await (await pgq.enqueue_by_name("work", "before")).result(timeout=60)
        await pgq.pause(task="work")

        async def heeds() -> bool:
            return inside.run_time_of(worker) == Settings(paused_tasks=frozenset({"work"}))

        await eventually(heeds)
        await pgq.enqueue_by_name("work", "after")
        await eventually(lambda: is_aside(db, 1))

    assert runs == ["before"]


@pytest.mark.contract("P4.11")
async def test_nothing_starts_before_a_worker_has_read_what_is_paused(pgq: PgQueue, db: Connection) -> None:
    runs, _, _ = declare(pgq)
    await pgq.pause(task="work")
    await pgq.enqueue_by_name("work", "paused")
    # The worker waits here to read the settings. Claims do not read this table.
    transaction = db.transaction()
    await transaction.start()
    await db.execute("lock table pgqueue.setting in access exclusive mode")

    async with pgq.worker(lease_ttl=3) as worker:
        await until_blocked(pgq, "read_settings")
        await eventually(lambda: holds(inside.lease_of(worker) is not None))
        for _ in range(2):
            await renewed(pgq, inside.lease_of(worker))
        assert runs == []
        await transaction.commit()
        await eventually(lambda: is_aside(db, 1))

    assert runs == []


@pytest.mark.contract("P4.11")
async def test_a_pause_outlives_workers(pgq: PgQueue, dsn: str) -> None:
    await pgq.pause(queue="mail")
    await pgq.pause(task="work")
    async with PgQueue(dsn) as later:
        runs, _, _ = declare(later)
        async with later.worker(queues=["default", "mail"]):
            await later.enqueue_by_name("other", "paused queue", options={"queue": "mail"})
            await later.enqueue_by_name("work", "paused task")
            for _ in range(5):
                await (await later.enqueue_by_name("other", "other")).result(timeout=60)

    assert set(runs) == {"other"}


@pytest.mark.contract("P4.11")
async def test_once_paused_no_claim_takes_anything(pgq: PgQueue, db: Connection) -> None:
    for _ in range(3):
        await pgq.enqueue_by_name("work", "name")

    async with ghost(pgq) as worker:
        taken = await worker.claim(limit=1)
        await pgq.pause(queue="default")
        claimed, prefetched = await worker.claim(), await worker.prefetch()
        await pgq.resume(queue="default")
        after = await worker.claim()

    assert (len(taken), claimed, prefetched, len(after)) == (1, [], [], 2)


@pytest.mark.contract("P4.11")
async def test_a_pause_waits_for_claims_that_are_under_way(pgq: PgQueue, db: Connection) -> None:
    await pgq.enqueue_by_name("work", "name")

    async with ghost(pgq) as worker:
        transaction = worker.connection.transaction()
        await transaction.start()
        claimed = await worker.claim()
        pausing = asyncio.ensure_future(pgq.pause(queue="default"))
        await eventually(lambda: waits(db, "await_claims"))
        was_done = pausing.done()
        await transaction.commit()
        await pausing

    assert len(claimed) == 1
    assert not was_done


@pytest.mark.contract("P4.11")
async def test_a_claim_with_an_older_snapshot_heeds_the_pause(pgq: PgQueue, db: Connection) -> None:
    await pgq.enqueue_by_name("work", "name")

    async with ghost(pgq) as worker, inside.database(pgq).acquire() as pauser:
        # The lease is held, as the end of a pause holds it: the claim has its snapshot, and waits.
        transaction = pauser.transaction()
        await transaction.start()
        await inside.store(pgq).await_claims(pauser)
        claiming = asyncio.ensure_future(worker.claim())
        await eventually(lambda: waits(db, "claim"))
        await db.execute("select pgqueue.set_paused('queue', 'default', true)")
        await transaction.commit()

        assert await claiming == []


@pytest.mark.contract("P4.11", "P2.24")
async def test_prefetched_jobs_of_a_paused_queue_go_back_and_do_not_start(
    pgq: PgQueue, db: Connection
) -> None:
    runs, started, go = declare(pgq)
    async with pgq.worker(concurrency=1, prefetch_multiplier=5):
        running = await pgq.enqueue_by_name("hold")
        await started.wait()
        jobs = [await pgq.enqueue_by_name("work", str(number)) for number in range(3)]
        await eventually(lambda: are_prefetched(db, 3))
        await pgq.pause(queue="default")
        prefetched = await db.fetchval("select count(*) from pgqueue.running where started_at is null")
        go.set()
        await running.result(timeout=60)
        ran_meanwhile = list(runs)
        await pgq.resume(queue="default")
        for job in jobs:
            await job.result(timeout=60)

    assert (prefetched, ran_meanwhile) == (0, [])
    assert runs == ["0", "1", "2"]


@pytest.mark.contract("P4.11")
async def test_a_prefetched_job_that_is_to_start_after_the_pause_goes_back(
    pgq: PgQueue, db: Connection
) -> None:
    await pgq.enqueue_by_name("work", "name")

    async with ghost(pgq) as worker:
        [job_id] = await worker.prefetch()
        place = await db.fetchval("select position from pgqueue.running")
        await db.execute("select pgqueue.set_paused('queue', 'default', true)")
        started = await worker.store.start(worker.connection, worker.lease_id, [job_id])

    assert started == []
    assert await db.fetchval("select position from pgqueue.ready where job_id = $1", job_id) == place
    assert await db.fetchval("select count(*) from pgqueue.running") == 0


@pytest.mark.contract("P2.24")
async def test_paused_jobs_occupy_no_prefetch(pgq: PgQueue, db: Connection) -> None:
    declare(pgq)
    await pgq.pause(queue="mail")
    await pgq.pause(task="work")
    jobs = [pgq.signature("other", "name", options={"queue": "mail"}) for _ in range(50)]
    await pgq.enqueue_many([*jobs, *(pgq.signature("work", "name") for _ in range(50))])
    async with pgq.worker(queues=["default", "mail"], concurrency=2, prefetch_multiplier=4) as worker:
        await eventually(lambda: is_aside(db, 50))
        for _ in range(10):
            await (await pgq.enqueue_by_name("other", "name")).result(timeout=60)

        assert inside.claimer_of(worker).prefetched == []
        assert await db.fetchval("select count(*) from pgqueue.running") == 0


@pytest.mark.contract("P4.11")
async def test_pauses_are_listed_with_who_and_why(pgq: PgQueue) -> None:
    changed = [
        await pgq.pause(queue="mail", actor="ann", reason="the relay is down"),
        await pgq.pause(queue="mail", actor="bob"),
        await pgq.pause(task="work"),
        await pgq.resume(task="work"),
        await pgq.resume(task="work"),
    ]

    [setting] = await pgq.settings()

    assert changed == [True, False, True, True, False]
    assert (setting.kind, setting.name) == ("queue", "mail")
    assert (setting.actor, setting.reason) == ("ann", "the relay is down")
    assert setting.paused_at == setting.changed_at


async def test_a_lane_is_paused_by_its_queue_and_by_its_task(pgq: PgQueue, db: Connection) -> None:
    await db.execute("insert into pgqueue.lane (queue, priority, task) values ('mail', 0, 'work')")
    await pgq.pause(queue="mail")
    await pgq.pause(task="work")

    await pgq.resume(queue="mail")

    assert await db.fetchval("select paused from pgqueue.lane where task = 'work'")


@pytest.mark.parametrize("named", [{}, {"queue": "mail", "task": "work"}])
async def test_a_pause_needs_one_name(pgq: PgQueue, named: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="pass exactly one of"):
        await pgq.pause(**named)


async def test_a_pause_is_not_taken_before_the_queue_is_open(dsn: str) -> None:
    with pytest.raises(NotOpenError):
        await PgQueue(dsn).pause(queue="mail")


# Options at run time


@pytest.mark.contract("P2.10")
async def test_options_changed_at_run_time_hold_for_attempts_that_have_not_started(
    pgq: PgQueue, dsn: str
) -> None:
    @pgq.task(timeout=3600, max_retries=0)
    async def work() -> None:
        await asyncio.sleep(3600)

    async with PgQueue(dsn) as elsewhere, pgq.worker() as worker:
        await elsewhere.configure_task("work", timeout=0.05, actor="ann", reason="too slow")

        async def heeds() -> bool:
            run_time = inside.run_time_of(worker)
            return run_time is not None and "work" in run_time.options

        await eventually(heeds)
        job = await work.enqueue()
        with pytest.raises(JobFailed, match="hard_timeout"):
            await job.result(timeout=60)

    [setting] = await pgq.settings()
    assert (setting.options, setting.actor, setting.reason) == ({"timeout": 0.05}, "ann", "too slow")


@pytest.mark.contract("P2.10")
async def test_a_worker_that_starts_heeds_the_options_at_once(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def work() -> None:
        await asyncio.sleep(3600)

    await pgq.configure_task("work", timeout=0.05)
    job = await work.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed, match="hard_timeout"):
            await job.result(timeout=60)


@pytest.mark.contract("P2.10")
def test_a_call_is_nearer_than_run_time_and_run_time_than_the_task() -> None:
    pgq = PgQueue("postgresql://nowhere/", timeout=1)
    pgq.queue("default", timeout=2)

    @pgq.task(timeout=3)
    async def work() -> None: ...

    def limit(call: Options) -> float | None:
        return pgq.registry.policy(work.definition, "default", call).timeout

    declared = limit(Options())
    pgq.registry.set_at_run_time({"work": Options(timeout=4)})

    assert (declared, limit(Options()), limit(Options(timeout=5))) == (3, 4, 5)
    assert pgq.registry.policy(work.definition, "default").timeout == 4


@pytest.mark.contract("P2.10")
async def test_options_without_any_take_back_what_was_configured(pgq: PgQueue) -> None:
    await pgq.configure_task("work", timeout=5)

    await pgq.configure_task("work")

    assert await pgq.settings() == []


async def test_a_pause_and_options_of_one_task_do_not_touch_each_other(pgq: PgQueue) -> None:
    await pgq.configure_task("work", timeout=5)
    await pgq.pause(task="work")
    await pgq.resume(task="work")

    [setting] = await pgq.settings()

    assert (setting.paused_at, setting.options) == (None, {"timeout": 5})


async def test_the_losses_that_a_task_may_have_are_changed_at_run_time(pgq: PgQueue, db: Connection) -> None:
    job = await pgq.enqueue_by_name("work", "name")
    await pgq.configure_task("work", max_losses=0)

    async with ghost(pgq) as lost, pgq.worker(queues=["others"]):
        await lost.claim()
        await lost.die()
        with pytest.raises(JobFailed, match="worker_lost"):
            await job.result(timeout=60)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"timeout": 0}, "more than 0"), ({"queue": "mail"}, "unknown option 'queue'")],
)
async def test_options_that_cannot_be_are_refused_where_they_are_given(
    pgq: PgQueue, options: dict[str, object], match: str
) -> None:
    with pytest.raises(InvalidOptionError, match=match):
        await pgq.configure_task("work", **options)  # type: ignore[arg-type]  # that is the point

    assert await pgq.settings() == []


async def test_options_that_a_worker_cannot_read_are_passed_over(
    pgq: PgQueue, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    runs, _, _ = declare(pgq)
    await db.execute(
        "insert into pgqueue.setting (kind, name, options) values ('task', 'work', '{\"timeout\": -1}')"
    )
    async with pgq.worker():
        await (await pgq.enqueue_by_name("work", "name")).result(timeout=60)

    assert runs == ["name"]
    assert caplog.text.count("unreadable run-time options of task 'work'") == 1


async def waits(db: asyncpg.Connection[asyncpg.Record], statement: str) -> bool:
    return await blocked_session(db, statement) is not None


async def is_aside(db: Connection, count: int) -> bool:
    """Whether so many jobs are in lanes for one task, and none is on the way there."""
    return bool(
        await db.fetchval(
            "select count(*) = $1 and not exists (select from pgqueue.running) "
            "from pgqueue.ready join pgqueue.lane on lane.id = ready.lane where lane.task <> ''",
            count,
        )
    )


async def are_prefetched(db: Connection, count: int) -> bool:
    return bool(
        await db.fetchval("select count(*) = $1 from pgqueue.running where started_at is null", count)
    )


async def succeeded_at_first(pgq: PgQueue, job_id: object) -> bool:
    job = await pgq.get(job_id)  # type: ignore[arg-type]
    return (job.status, job.attempt, job.losses) == (JobStatus.SUCCEEDED, 1, 0)
