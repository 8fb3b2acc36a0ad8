"""What each chore does when it is done once, and when it wants to be done again. No worker runs here."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from kit import inside
from kit.dead import fail_jobs
from kit.faults import ghost
from kit.waiting import eventually

from pgqueue import JobHandle, JobStatus, PgQueue
from pgqueue.database.link import Link
from pgqueue.upkeep import broken_rows, expiring, promoting, tidying
from pgqueue.upkeep.attending import Attending
from pgqueue.upkeep.cancelling import Cancelling
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.expiring import Expiring
from pgqueue.upkeep.partitioning import Partitioning
from pgqueue.upkeep.promoting import Promoting
from pgqueue.upkeep.reconfiguring import Reconfiguring
from pgqueue.upkeep.redriving import Redriving
from pgqueue.upkeep.rescuing import Rescuing
from pgqueue.upkeep.state import WorkerState
from pgqueue.upkeep.tidying import tidying_chores
from pgqueue.upkeep.tools import Tools
from pgqueue.upkeep.unblocking import Unblocking
from pgqueue.upkeep.unknown_tasks import UnknownTasks

if TYPE_CHECKING:
    from conftest import Connection


class Heard:
    """An announcer that keeps what it is told."""

    def __init__(self) -> None:
        self.ended: list[UUID] = []
        self.ready: list[int] = []
        self.dead: list[UUID] = []

    def committed(self, *, ended: Collection[UUID] = (), ready: Iterable[int] = ()) -> None:
        self.ended += ended
        self.ready += ready

    def handed_over(self, lanes: Collection[int]) -> None:
        raise AssertionError(lanes)

    def failed(self, job_ids: Collection[UUID]) -> None:
        self.dead += job_ids

    def noted(self, notes: Collection[int] | None) -> None:
        """Not asked about here."""

    def due_in(self, delay: float) -> None:
        raise AssertionError(delay)


class Running:
    """Attempts that can be told to stop."""

    def __init__(self) -> None:
        self.cancelled: list[UUID] = []

    def cancel(self, job_ids: Collection[UUID]) -> None:
        self.cancelled += job_ids


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def tools(pgq: PgQueue, heard: Heard) -> AsyncIterator[Tools]:
    link = Link(inside.database(pgq), durable=True)
    yield Tools(inside.store(pgq), link, inside.observers(pgq), heard, WorkerState(), "worker")
    await link.close()


async def enqueued(pgq: PgQueue, count: int, **options: object) -> list[JobHandle[object]]:
    """Enqueue jobs of a task that is not declared."""
    return [await pgq.enqueue_by_name("work", options=options) for _ in range(count)]  # type: ignore[arg-type]


async def make_due(db: Connection) -> None:
    """Make all scheduled jobs due."""
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute("update pgqueue.scheduled set scheduled_at = now()")


async def let_expire(db: Connection) -> None:
    """Let the expiry of all jobs that have one be now."""
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute("update pgqueue.job set expires_at = now() where expires_at is not null")
        await db.execute("update pgqueue.expiry set check_at = now()")


async def statuses(jobs: Iterable[JobHandle[object]]) -> list[JobStatus]:
    return [await job.status() for job in jobs]


async def test_promoting_asks_for_its_turn_when_the_next_job_is_due(
    pgq: PgQueue, tools: Tools, heard: Heard, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoting, "TICK", 3600.0)
    await enqueued(pgq, 1, delay=600)
    chore = Promoting(tools)

    before = await chore.run()
    await make_due(db)
    after = await chore.run()

    assert 500 < before <= 600
    assert after == 3600
    assert len(heard.ready) == 1


async def test_promoting_is_called_for_by_a_job_that_is_due_soon(tools: Tools) -> None:
    chore = Promoting(tools)
    before = chore.is_called_for

    tools.state.soon_due += 1
    called_for = chore.is_called_for
    await chore.run()

    assert (before, called_for, chore.is_called_for) == (False, True, False)


async def test_what_is_more_than_a_batch_is_done_at_once(
    pgq: PgQueue, tools: Tools, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoting, "LIMIT", 2)
    monkeypatch.setattr(expiring, "LIMIT", 2)
    await enqueued(pgq, 3, delay=3600)
    await make_due(db)
    chore = Promoting(tools)

    assert [await chore.run(), await chore.run()] == [0.0, TICK]

    await enqueued(pgq, 3, expires=datetime.now(UTC) + timedelta(hours=1))
    await let_expire(db)
    expire = Expiring(tools)

    assert [await expire.run(), await expire.run()] == [0.0, TICK]


async def test_expiring_tells_of_the_ends(pgq: PgQueue, tools: Tools, heard: Heard, db: Connection) -> None:
    [job] = await enqueued(pgq, 1, expires=datetime.now(UTC) + timedelta(hours=1))
    await let_expire(db)

    await Expiring(tools).run()

    assert heard.ended == [job.id]
    assert await job.status() is JobStatus.EXPIRED


async def test_reconfiguring_notes_the_settings_and_wakes_the_claimer_when_they_change(
    pgq: PgQueue, tools: Tools
) -> None:
    chore, state = Reconfiguring(tools, pgq.registry), tools.state

    await chore.run()
    first = state.settings
    assert first is not None
    state.claiming.clear()
    await chore.run()
    assert state.settings is first
    assert not state.claiming.is_set()
    await pgq.pause(task="work")
    await chore.run()

    assert state.paused_tasks == {"work"}
    assert state.claiming.is_set()


async def test_cancelling_stops_own_attempts_and_carries_out_what_no_worker_runs(
    pgq: PgQueue, tools: Tools, heard: Heard, db: Connection
) -> None:
    running = Running()
    [own] = await enqueued(pgq, 1)
    async with ghost(pgq) as holder:
        await holder.claim()
        tools.state.lease_id = holder.lease_id
        await own.cancel()
        # As if its attempt had ended with a retry while the request was being written.
        [other] = await enqueued(pgq, 1)
        await db.execute(
            "insert into pgqueue.cancel_request (job_id, lease_id) values ($1, gen_random_uuid())", other.id
        )

        await Cancelling(tools, running).run()

    assert running.cancelled == [own.id]
    assert heard.ended == [other.id]
    assert await statuses([own, other]) == [JobStatus.RUNNING, JobStatus.CANCELLED]


class Idle:
    """Attends to nothing."""

    is_idle = True
    skipped = ()

    def add_found(self, notes: Iterable[int]) -> None:
        """See Attends."""

    def add_later(self, notes: Iterable[tuple[int, float]]) -> None:
        """See Attends."""


@pytest.mark.parametrize("kind", [Reconfiguring, Cancelling, Attending])
async def test_a_request_calls_for_the_chores_that_heed_it(
    pgq: PgQueue, tools: Tools, kind: type[Chore]
) -> None:
    chore: Chore = Reconfiguring(tools, pgq.registry)
    if kind is Cancelling:
        chore = Cancelling(tools, Running())
    elif kind is Attending:
        chore = Attending(tools, Idle())
    before = chore.is_called_for

    (tools.state.notes if kind is Attending else tools.state.requests).hear()
    called_for = chore.is_called_for
    await chore.run()

    assert (before, called_for, chore.is_called_for) == (False, True, False)
    assert tools.state.upkeep.is_set()


async def test_rescuing_returns_the_jobs_of_an_expired_lease_and_tells_of_those_that_failed(
    pgq: PgQueue, tools: Tools, heard: Heard
) -> None:
    [kept] = await enqueued(pgq, 1)
    [lost] = await enqueued(pgq, 1, max_losses=0)
    async with ghost(pgq, max_losses={}) as holder:
        await holder.claim()
        await holder.die()

        assert await Rescuing(tools).run() == TICK

    assert await statuses([kept, lost]) == [JobStatus.PENDING, JobStatus.FAILED]
    assert (heard.ended, heard.dead, len(heard.ready)) == ([lost.id], [lost.id], 1)


async def test_unblocking_moves_on_what_waited_for_a_job_that_has_ended(
    pgq: PgQueue, tools: Tools, heard: Heard
) -> None:
    @pgq.task
    async def work() -> None: ...

    coalesced = work.options(idempotency_key="a", on_conflict="coalesce")
    first = await coalesced.enqueue()
    async with ghost(pgq) as holder:
        await holder.claim()
        follower = await coalesced.enqueue()
        before = await follower.status()
        await holder.store.finish(holder.connection, holder.lease_id, holder.name, [first.id], None)

    assert await Unblocking(tools).run() == TICK
    assert (before, await follower.status()) == (JobStatus.BLOCKED, JobStatus.PENDING)
    assert len(heard.ready) == 1


async def test_redriving_does_what_is_due_of_a_mass_redrive(
    pgq: PgQueue, tools: Tools, heard: Heard, db: Connection
) -> None:
    [job_id] = await fail_jobs(db, 1)
    await pgq.redrive_many(all=True, rate=1000)
    await db.execute("update pgqueue.mass_redrive set carried_at = now() - interval '2 seconds'")

    assert await Redriving(tools).run() == TICK

    assert await pgq.handle(job_id).status() is JobStatus.PENDING
    assert len(heard.ready) == 1


async def test_jobs_of_unknown_tasks_are_looked_at_once_a_minute(pgq: PgQueue, tools: Tools) -> None:
    assert await UnknownTasks(tools, pgq.registry, grace=3600).run() == 60
    assert await UnknownTasks(tools, pgq.registry, grace=None).run() == 60


async def test_partitions_are_made_some_days_ahead(tools: Tools, db: Connection) -> None:
    days = "select count(*) from pg_inherits where inhparent = 'pgqueue.job'::regclass"
    before = await db.fetchval(days)
    last = await db.fetchval(
        "select max(inhrelid::regclass::text) from pg_inherits "
        "where inhparent = 'pgqueue.job'::regclass and inhrelid::regclass::text <> 'pgqueue.job_default'"
    )
    await db.execute(f"drop table {last}")

    assert await Partitioning(tools).run() == 3600

    assert await db.fetchval(days) == before


async def test_tidying_comes_back_soon_while_there_is_more_than_it_does_at_a_time(
    tools: Tools, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "LIMIT", 2)
    monkeypatch.setattr(tidying, "BATCHES", 2)
    await db.execute(
        "insert into pgqueue.inbox (id, source, event_id, marker, expires_at) "
        "select gen_random_uuid(), 'shop', n::text, gen_random_uuid(), now() - interval '1 second' "
        "from generate_series(1, 5) as n"
    )
    [events] = [chore for chore in tidying_chores(tools) if "events" in chore.name]

    pauses = [await events.run(), await events.run()]

    assert pauses == [TICK, tidying.INTERVAL]
    assert await db.fetchval("select count(*) from pgqueue.inbox") == 0


OLD = "now() - interval '2 days'"
AGES = "now() - interval '31 days'"
ROWS_TO_REMOVE = {
    "no longer held": (
        "idempotency_key",
        f"(id, scope, key, job_id, span, expires_at) values ($1, 'g', 'k', $1, 'window', {OLD})",
    ),
    "processed long ago": (
        "inbox",
        f"(id, source, event_id, marker, expires_at) values ($1, 's', 'e', $1, {OLD})",
    ),
    "removing old statistics": ("stat", f"(id, at, {{}}) values ($1, {OLD}, {{}})"),
    "removing bulk operations that ended long ago": (
        "bulk",
        f"(id, verb, job_ids, state, ended_at) values ($1, 'cancel', '{{{{}}}}', 'done', {AGES})",
    ),
    "removing mass redrives that ended long ago": (
        "mass_redrive",
        f"(id, filter, rate, reset_attempts, total, ended_at) values ($1, '{{{{}}}}', 1, true, 0, {AGES})",
    ),
    "by merging them": ("stat", "(id, at, {}) values ($1, now() - interval '1 hour', {})"),
}
STAT = ("seconds", "enqueued", "claimed", "succeeded", "failed", "cancelled", "expired", "retried", "lost")


@pytest.mark.contract("W8")
@pytest.mark.parametrize("what", ROWS_TO_REMOVE)
async def test_a_row_that_cannot_be_tidied_up_is_skipped_for_a_while_and_the_others_go(
    tools: Tools,
    db: Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    monkeypatch.setattr(broken_rows, "PAUSES", (0.5,))
    table, row = ROWS_TO_REMOVE[what]
    row = row.format(", ".join(("queue", *STAT)), ", ".join(("'default'", *("1" for _ in STAT))))
    ids = sorted(uuid4() for _ in range(20))
    for each in ids:
        await db.execute(f"insert into pgqueue.{table} {row}", each)
    await refuse_to_delete(db, table, "id", ids[7])
    [chore] = [chore for chore in tidying_chores(tools) if chore.name.endswith(what)]

    async with db.transaction(isolation="read_committed"):
        # One that somebody else has locked is not in its way, and not blamed for it.
        await db.execute(f"select from pgqueue.{table} where id = $1 for update", ids[0])
        await chore.run()
        left = await db.fetch(f"select id from pgqueue.{table} where id = any($1) order by id", ids)
    await db.execute(f"drop trigger refuse on pgqueue.{table}")

    async def are_gone() -> bool:
        # Statistics are merged by one worker for all, and then not for a while.
        await db.execute("delete from pgqueue.chore")
        await chore.run()
        return not await db.fetchval(f"select count(*) from pgqueue.{table} where id = any($1)", ids)

    assert [each["id"] for each in left] == [ids[0], ids[7]]
    assert str(ids[7]) in caplog.text
    assert str(ids[0]) not in caplog.text
    await eventually(are_gone)


@pytest.mark.contract("W8")
async def test_a_job_of_an_unknown_task_that_cannot_be_failed_is_skipped_and_the_others_fail(
    pgq: PgQueue, tools: Tools, heard: Heard, db: Connection
) -> None:
    jobs = await enqueued(pgq, 20)
    await db.execute("set pgqueue.writer to 'on'")
    lane = await db.fetchval(
        "insert into pgqueue.lane (queue, priority, task) values ('default', 0, 'work') returning id"
    )
    await db.execute("update pgqueue.ready set lane = $1, ready_at = now() - interval '1 hour'", lane)
    await refuse_to_delete(db, "ready", "job_id", jobs[7].id)

    assert await UnknownTasks(tools, pgq.registry, grace=60).run() == 60

    expected = [JobStatus.PENDING if n == 7 else JobStatus.FAILED for n in range(20)]
    assert await statuses(jobs) == expected
    assert {*heard.dead} == {job.id for n, job in enumerate(jobs) if n != 7}


@pytest.mark.contract("W8")
async def test_a_request_that_fails_at_a_job_of_another_worker_is_skipped_for_a_while(
    pgq: PgQueue, tools: Tools, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = await enqueued(pgq, 3)
    async with ghost(pgq) as other:
        await other.claim()
        await db.execute("set pgqueue.writer to 'on'")
        for job in jobs:
            await db.execute(
                "insert into pgqueue.cancel_request (job_id, lease_id) values ($1, gen_random_uuid())", job.id
            )
        await refuse_to_delete(db, "cancel_request", "job_id", jobs[1].id)
        chore = Cancelling(tools, Running())

        # Its lease is alive: the job is neither failed nor put right. Tried again at once, the request
        # failed again at once, and the chore left the worker no time.
        pauses = [await chore.run() for _ in range(3)]

    assert pauses == [TICK] * 3
    assert caplog.text.count("cannot be worked on") == 1
    assert "put right" not in caplog.text


@pytest.mark.contract("W8")
async def test_a_request_with_a_longer_reason_than_a_call_takes_is_carried_out(
    pgq: PgQueue, tools: Tools, db: Connection
) -> None:
    [job] = await enqueued(pgq, 1)
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute(
        "insert into pgqueue.cancel_request (job_id, lease_id, reason, actor) "
        "values ($1, gen_random_uuid(), repeat('r', 30000), repeat('a', 30000))",
        job.id,
    )

    await Cancelling(tools, Running()).run()

    assert (await job.refresh()).reason == "r" * 1000


async def refuse_to_delete(db: Connection, table: str, column: str, row: UUID) -> None:
    """Have a trigger, as a user may add one, refuse to have one row deleted."""
    await db.execute(
        f"""
        create function public.refuse() returns trigger language plpgsql as $$
        begin
            if old.{column} = '{row}' then raise exception 'this row stays'; end if;
            return old;
        end $$;
        create trigger refuse before delete on pgqueue.{table} for each row execute function public.refuse();
        """
    )


async def test_every_chore_has_a_name_of_its_own_and_a_finite_interval(tools: Tools) -> None:
    chores = [*tidying_chores(tools), Partitioning(tools), Redriving(tools), Expiring(tools)]

    assert len({chore.name for chore in chores}) == len(chores)
    assert all([0 < await chore.run() < math.inf for chore in chores])
