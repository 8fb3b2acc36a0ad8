"""What is written of workflows, who moves it on, and for how long it is kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from kit import inside
from kit.dead_plans import rows_read
from kit.faults import Ghost, ghost
from kit.graphs import Draft
from kit.plans import connected, freeze_statistics
from kit.roles import roles_of
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue
from pgqueue.events import JobsCancelled, WorkErrorIsolated
from pgqueue.model.ids import new_id
from pgqueue.options.retention import Retention
from pgqueue.store import Callback, NewJob, Settled, Store, Template

if TYPE_CHECKING:
    from conftest import Connection

FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)


@pytest.fixture
async def holder(pgq: PgQueue, db: Connection) -> AsyncIterator[Ghost]:
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    async with ghost(pgq) as holder:
        yield holder


async def status(db: Connection, job_id: UUID) -> str | None:
    found: str | None = await db.fetchval("select pgqueue.status_of($1)::text", job_id)
    return found


async def end(holder: Ghost, ids: list[UUID], connection: Connection | None = None) -> Settled:
    """Have jobs that the holder runs succeed, and nobody attend to it."""
    settled = Settled()
    await holder.store.finish(connection or holder.connection, holder.lease_id, "ghost", ids, None, settled)
    return settled


async def attend_all(holder: Ghost) -> None:
    while (await holder.store.attend(holder.connection, None, 1000)).taken:
        pass


# Moving on


@pytest.mark.contract("P7.3", "P2.18")
async def test_a_link_becomes_ready_in_the_transaction_that_records_the_success_before_it(
    db: Connection, holder: Ghost
) -> None:
    draft = Draft()
    first = draft.job("ok")
    second = draft.job("ok", [first])
    await holder.store.submit_workflow(db, draft.graph())
    await holder.claim()
    transaction = holder.connection.transaction()
    await transaction.start()

    settled = await end(holder, [first])

    assert settled.lanes
    assert settled.notes == []
    assert (await status(db, first), await status(db, second)) == ("running", "blocked")
    await transaction.rollback()
    assert (await status(db, first), await status(db, second)) == ("running", "blocked")
    await end(holder, [first])
    assert (await status(db, first), await status(db, second)) == ("succeeded", "pending")


@pytest.mark.contract("P7.7")
async def test_of_members_that_end_in_one_instant_the_last_one_starts_the_body_once(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    others = [await inside.database(pgq).connect(durable=False) for _ in range(4)]
    for _ in range(25):
        draft = Draft()
        members = [draft.job("ok") for _ in range(4)]
        body = draft.job("ok", members)
        await holder.store.submit_workflow(db, draft.graph())
        await holder.claim()

        async def finish(connection: Connection, member: UUID) -> None:
            settled = await end(holder, [member], connection)
            notes: Any = settled.notes
            while notes:
                notes = (await holder.store.attend(connection, notes, 100)).more

        await asyncio.gather(*map(finish, others, members))

        places = await db.fetch("select job_id from pgqueue.ready")
        assert [row["job_id"] for row in places] == [body]
        assert await db.fetchval("select count(*) from pgqueue.note") == 0
        assert [job.id for job in await holder.claim()] == [body]
        await end(holder, [body])
    for connection in others:
        await connection.close()


@pytest.mark.contract("P7.7")
async def test_what_a_worker_ended_before_it_died_is_attended_to_by_another_within_a_second_or_two(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    @pgq.task
    async def ok() -> None: ...

    draft = Draft()
    members = [draft.job("ok") for _ in range(3)]
    join = draft.join(members)
    body = draft.job("ok", [join])
    await holder.store.submit_workflow(db, draft.graph())
    await holder.claim()
    settled = await end(holder, members)
    assert settled.notes

    async with pgq.worker():
        await asyncio.wait_for(eventually(lambda: has_ended(db, body)), 15)


@pytest.mark.contract("W8")
async def test_a_workflow_that_cannot_be_attended_to_stops_no_other_and_observers_hear_of_cancelled_jobs(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    heard: list[object] = []
    pgq.observe(heard.append, JobsCancelled)
    pgq.observe(heard.append, WorkErrorIsolated)

    @pgq.task
    async def ok() -> None: ...

    ends = []
    for shape in ("broken", "whole", "spoilt"):
        draft = Draft()
        members = [draft.job("ok") for _ in range(2)]
        body = draft.job("ok", members)
        await holder.store.submit_workflow(db, draft.graph())
        if shape == "broken":
            await holder.connection.execute("update pgqueue.barrier set open = -2147483648")
        ends.append((members, body))
    await holder.claim()
    await db.execute("select pgqueue.transition($1, 'failed', $2)", ends[2][0][0], holder.lease_id)
    await end(holder, [*ends[0][0], *ends[1][0], ends[2][0][1]])

    async with pgq.worker() as worker:
        await asyncio.wait_for(eventually(lambda: has_ended(db, ends[1][1])), 30)
        await asyncio.wait_for(eventually(lambda: is_told(heard, ends[2][1])), 30)
        assert worker.is_consuming

    assert await status(db, ends[0][1]) == "blocked"
    broken = {each.statement for each in heard if isinstance(each, WorkErrorIsolated)}
    assert broken == {"workflows/attend"}


async def is_told(heard: list[object], job_id: UUID) -> bool:
    return any(isinstance(each, JobsCancelled) and job_id in each.job_ids for each in heard)


async def has_ended(db: Connection, job_id: UUID) -> bool:
    return await status(db, job_id) == "succeeded"


@pytest.mark.contract("P7.7")
async def test_a_job_waits_for_jobs_that_were_there_before_wherever_they_stand(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    over, running, pending = [(await pgq.enqueue_by_name("ok")).id for _ in range(3)]
    gone = new_id()
    await holder.store.claim_one(holder.connection, holder.lease_id, over)
    await end(holder, [over])
    await holder.store.claim_one(holder.connection, holder.lease_id, running)
    draft = Draft()
    waits = draft.job("ok", [over, running, pending, gone], runs_anyway=True)
    async with db.transaction():
        await holder.store.submit_workflow(db, draft.graph())
        # The caller's transaction is open, and holds up nobody.
        await end(holder, [running])
    await attend_all(holder)
    assert await status(db, waits) == "blocked"

    await db.execute("select pgqueue.cancel($1)", pending)
    await attend_all(holder)

    assert await status(db, waits) == "pending"
    outcomes = [each.status for each in await holder.store.read_inputs(db, waits)]
    assert outcomes == ["succeeded", "succeeded", "cancelled", None]


@pytest.mark.contract("P7.7")
async def test_a_callback_is_made_once_for_each_end(db: Connection, holder: Ghost) -> None:
    draft = Draft()
    fails = draft.job("fails")
    graph = draft.graph()
    call = NewJob(Template(("alerts", 3), "alert"), '{"why": 1}')
    graph = type(graph)(
        graph.workflow_id, fails, None, graph.nodes,
        callbacks=[
            Callback(fails, 0, "error", call, takes_inputs=True),
            Callback(fails, 1, "success", call),
            Callback(fails, 2, "complete", call),
        ],
    )  # fmt: skip
    await holder.store.submit_workflow(db, graph)
    made = "select count(*) from pgqueue.job where task = 'alert'"

    await db.execute("select pgqueue.transition($1, 'failed')", fails)
    await attend_all(holder)
    await db.execute("insert into pgqueue.note (node_id) values ($1)", fails)
    await attend_all(holder)
    assert await db.fetchval(made) == 2
    await db.execute("select pgqueue.redrive($1)", fails)
    await attend_all(holder)
    assert await db.fetchval(made) == 2
    await db.execute("select pgqueue.transition($1, 'failed')", fails)
    await attend_all(holder)

    assert await db.fetchval(made) == 4
    fed = await db.fetchval("select id from pgqueue.job where task = 'alert' and hooks = 2 limit 1")
    assert [each.status for each in await holder.store.read_inputs(db, fed)] == ["failed"]


# Operating


@pytest.mark.contract("P7.7")
async def test_a_cancelled_workflow_ends_in_parts_and_its_body_never_runs(
    db: Connection, holder: Ghost
) -> None:
    draft = Draft()
    members = [draft.job("ok") for _ in range(5)]
    body = draft.job("ok", members, runs_anyway=True)
    graph = draft.graph()
    await holder.store.submit_workflow(db, graph)
    await holder.store.claim_one(holder.connection, holder.lease_id, members[0])

    reached, told = FIRST, []
    while True:
        waiting, running = await holder.store.cancel_workflow(
            db, graph.workflow_id, reached, 2, "no more", "me"
        )
        if not (moved := waiting + running):
            break
        told += moved
        reached = max(job.job_id for job in moved)
        if running:
            assert [job.job_id for job in running] == members[:1]
    await holder.store.release(holder.connection, holder.lease_id, "ghost", members[:1])
    await attend_all(holder)

    assert len(told) == 6
    assert await status(db, body) == "cancelled"
    counts = await holder.store.count_nodes(db, graph.workflow_id)
    assert counts == {JobStatus.CANCELLED: 6}


async def test_of_a_paused_workflow_nothing_becomes_ready_until_it_goes_on(
    db: Connection, holder: Ghost
) -> None:
    draft = Draft()
    first = draft.job("ok")
    link = draft.job("ok", [first])
    members = [draft.job("ok") for _ in range(2)]
    body = draft.job("ok", members)
    graph = draft.graph()
    await holder.store.submit_workflow(db, graph)
    await holder.claim()

    assert await holder.store.pause_workflow(holder.connection, graph.workflow_id, paused=True) == []
    await end(holder, [first, *members])
    await attend_all(holder)
    assert (await status(db, link), await status(db, body)) == ("blocked", "blocked")
    lanes = await holder.store.pause_workflow(holder.connection, graph.workflow_id, paused=False)

    assert lanes
    assert (await status(db, link), await status(db, body)) == ("pending", "pending")
    assert await holder.store.pause_workflow(holder.connection, new_id(), paused=True) is None


async def test_where_one_member_failed_those_that_only_lead_there_are_cancelled_if_that_was_asked_for(
    db: Connection, holder: Ghost
) -> None:
    draft = Draft()
    bad, shared = draft.job("ok"), draft.job("ok")
    before = draft.job("ok")
    member = draft.job("ok", [before])
    body = draft.job("ok", [bad, shared, member], fail_fast=True)
    elsewhere = draft.job("ok", [shared])
    await holder.store.submit_workflow(db, draft.graph())

    await db.execute("select pgqueue.transition($1, 'failed')", bad)
    await attend_all(holder)

    stands = [await status(db, job) for job in (before, member, body, shared, elsewhere)]
    assert stands == ["cancelled", "cancelled", "cancelled", "pending", "blocked"]


@pytest.mark.contract("P7.24")
async def test_results_outlive_their_retention_until_what_needs_them_has_ended(
    db: Connection, holder: Ghost
) -> None:
    draft = Draft()
    member = draft.job("ok")
    join = draft.join([member])
    body = draft.job("ok", [join])
    graph = draft.graph()
    await holder.store.submit_workflow(db, graph)
    plain = await db.fetchval("select pgqueue.enqueue('ok')")
    await holder.store.claim_one(holder.connection, holder.lease_id, member)
    await holder.store.claim_one(holder.connection, holder.lease_id, plain)
    await end(holder, [member, plain])
    await attend_all(holder)
    retention = Retention(0.0, 0.0, 0.0, 0.0)

    purged = await holder.store.purge(holder.connection, FIRST, LAST, 100, retention)
    assert purged.removed == 1
    assert await db.fetchval("select id from pgqueue.job where id = $1", plain) is None
    [body_claimed] = await holder.claim()
    assert body_claimed.id == body
    await end(holder, [body])
    purged = await holder.store.purge(holder.connection, FIRST, LAST, 100, retention)

    assert purged.removed == 2
    for table in ("job", "edge", "barrier", "workflow", "callback"):
        assert await db.fetchval(f"select count(*) from pgqueue.{table}") == 0, table


@pytest.mark.contract("F12")
@pytest.mark.parametrize("by_range", [False, True])
async def test_what_waits_for_a_job_that_is_removed_before_anybody_looked_does_not_wait_for_ever(
    pgq: PgQueue, holder: Ghost, by_range: bool
) -> None:
    old = await pgq.enqueue_by_name("old")
    await old.cancel()
    signature = pgq.signature("next", options={"depends_on": [old.id]})
    strict = await pgq.enqueue(signature)
    loose = await pgq.enqueue(signature.set(allow_failure=True))
    retention = Retention(succeeded=0, failed=0, cancelled=0, expired=0)
    connection, store = holder.connection, holder.store
    if by_range:
        await connection.execute("delete from pgqueue.job where id = $1", old.id)
        await store.forget_range(connection, old.id, UUID(int=old.id.int + 1))
    else:
        assert (await store.purge(connection, FIRST, LAST, 100, retention)).removed == 1

    while (await store.attend(connection, None, 1000)).taken:
        pass
    assert (await strict.refresh()).reason == "upstream_failed"
    assert (await loose.status()) is JobStatus.PENDING
    await loose.cancel()
    await store.purge(connection, FIRST, LAST, 100, retention)
    for table in ("edge", "barrier", "workflow", "job"):
        assert await connection.fetchval(f"select count(*) from pgqueue.{table}") == 0, table


# Who may write them

STRANGER = """
    select pgqueue.write_workflow(
        json_build_object('id', $1::text, 'root', 1), array[$2::text::uuid], '[{}]', '{1}', '{0}',
        '[{"queue": "default", "priority": 0, "task": "ok"}]', '[]',
        array[$3::text::uuid], '{2}', '{0}', '{f}', '[]')
"""
OLD_STRANGER = """
    select pgqueue.submit_workflow(
        json_build_object('id', $1::text, 'root', $2::text), array[$2::text::uuid], '[{}]', '{1}', '{}',
        '[{"queue": "default", "priority": 0, "task": "ok"}]', '[]',
        array[$2::text::uuid], array[$3::text::uuid], '{0}', '{f}', '[]')
"""


@pytest.mark.contract("W2")
async def test_a_role_that_enqueues_writes_workflows_of_new_jobs_alone(
    pgq: PgQueue, db: Connection, superuser_dsn: str, holder: Ghost
) -> None:
    other = await pgq.enqueue_by_name("others")
    draft = Draft()
    draft.job("ok", [draft.job("ok"), draft.job("ok")])
    stranger = Draft()
    stranger.job("ok")
    forged = Draft()
    forged.join([forged.job("ok")])
    forged.nodes[-1] = type(forged.nodes[-1])(other.id, None)
    forged.barriers = {other.id: type(next(iter(forged.barriers.values())))(other.id, is_join=True, total=1)}
    forged.edges = [(forged.edges[0][0], other.id, 0)]
    async with roles_of(superuser_dsn) as roles:
        connection = await asyncpg.connect(roles.dsn_of("enqueue"))
        store = Store("pgqueue")
        try:
            graph = draft.graph()
            await store.submit_workflow(connection, graph)
            with pytest.raises(asyncpg.InvalidParameterValueError):
                await store.submit_workflow(connection, forged.graph())
            # An edge can only lead to a node of the call, which is named by its place there, ...
            with pytest.raises(asyncpg.NotNullViolationError):
                await connection.execute(STRANGER, str(uuid4()), str(new_id()), str(other.id))
            # ... and a part can only be one of a workflow that is being written.
            part = replace(stranger.graph(), workflow_id=graph.workflow_id, root=None)
            with pytest.raises(asyncpg.UniqueViolationError):
                await store.submit_workflow(connection, part)
            # Clients of earlier versions name nodes by their ids.
            with pytest.raises(asyncpg.InvalidParameterValueError, match="is not of this workflow"):
                await connection.execute(OLD_STRANGER, str(uuid4()), str(new_id()), str(other.id))
        finally:
            await connection.close()

    assert await db.fetchval("select count(*) from pgqueue.workflow") == 1
    assert await db.fetchval("select count(*) from pgqueue.edge where downstream = $1", other.id) == 0


# Plans

EDGES = 20_000


async def test_settling_and_attending_read_the_rows_of_their_batch_alone(dsn: str, db: Connection) -> None:
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    async with connected(dsn) as bench:
        await freeze_statistics(bench.connection)
        store, connection = bench.store, bench.connection
        await connection.execute(
            """
            insert into pgqueue.edge (upstream, downstream, position, direct)
            select gen_random_uuid(), gen_random_uuid(), 0, n % 2 = 0 from generate_series(1, $1) as n
            """,
            EDGES,
        )
        await connection.execute(
            "insert into pgqueue.barrier (id, workflow_id, is_join, total, open) "
            "select gen_random_uuid(), gen_random_uuid(), false, 1, 1 from generate_series(1, $1)",
            EDGES,
        )
        draft = Draft()
        members = [draft.job("ok") for _ in range(50)]
        draft.job("ok", members)
        first = draft.job("ok")
        draft.job("ok", [first])
        await store.submit_workflow(connection, draft.graph())
        await store.claim(connection, bench.lease_id, 100, [(1, 0)])
        settled = Settled()

        async def finish_and_attend() -> None:
            await store.finish(connection, bench.lease_id, "w", [*members, first], None, settled)
            await store.attend(connection, settled.notes, 100)

        read: Counter[str] = await rows_read(connection, finish_and_attend)

    assert settled.lanes
    assert len(settled.notes) == 50
    assert read.total() <= 40 * 51


async def test_the_outcomes_of_all_members_stay_on_the_pages_of_their_edges(dsn: str, db: Connection) -> None:
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    async with connected(dsn) as bench:
        store, connection = bench.store, bench.connection
        draft = Draft()
        members = [draft.job("ok") for _ in range(500)]
        draft.job("ok", members)
        await store.submit_workflow(connection, draft.graph())
        await store.claim(connection, bench.lease_id, 500, [(1, 0)])
        settled = Settled()

        async with connection.transaction():
            await store.finish(connection, bench.lease_id, "w", members, None, settled)
            await store.attend(connection, settled.notes, 500)
            updated = await connection.fetchrow(
                "select n_tup_upd::integer as all, n_tup_hot_upd::integer as hot "
                "from pg_stat_xact_user_tables where relid = 'pgqueue.edge'::regclass"
            )

    assert updated is not None
    assert updated["all"] == 500
    assert updated["hot"] >= 450


async def test_a_delay_counts_from_the_moment_that_nothing_blocks_the_job(
    db: Connection, holder: Ghost
) -> None:
    draft = Draft()
    first = draft.job("ok")
    later = draft.job("ok", [first])
    node = draft.nodes[-1]
    draft.nodes[-1] = type(node)(later, NewJob(Template(("default", 0), "ok", delay=60.0), "{}"))
    await holder.store.submit_workflow(db, draft.graph())
    await holder.claim()
    await db.execute("select pg_sleep(0.05)")
    await end(holder, [first])

    await attend_all(holder)

    assert await status(db, later) == "scheduled"
    wait = await db.fetchval("select scheduled_at - now() from pgqueue.scheduled where job_id = $1", later)
    assert timedelta(seconds=50) < wait <= timedelta(seconds=60)
