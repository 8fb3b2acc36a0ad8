"""Has all that is left to do be done, by pgqueue's own statements: afterwards nothing may be left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

from kit.whole_store.checks import left_over, violations
from kit.whole_store.clock import pass_time
from pgqueue.options.retention import Retention
from pgqueue.store import Store
from pgqueue.upkeep.retention import FIRST_ID, LAST_ID

if TYPE_CHECKING:
    from conftest import Connection

DAY: Final = 86_400.0
ZERO: Final = UUID(int=0)
ROUNDS: Final = 100
ALL: Final = Retention(succeeded=0.0, failed=0.0, cancelled=0.0, expired=0.0)


async def attend(store: Store, connection: Connection) -> None:
    """Attend to all that was noted and is due."""
    for _ in range(ROUNDS):
        if not (await store.attend(connection, None, 1000)).taken:
            return
    raise AssertionError("there are notes without end")


async def rescue(
    store: Store,
    connection: Connection,
    lease_id: UUID,
    most: int,
    losses: int,
    amid: Callable[[], Awaitable[None]] | None = None,
) -> int | None:
    """Rescue jobs of a lease that has expired, as the upkeep does; return how many. None: it is held.

    *amid*: what somebody else does as soon as the lease is locked.
    """
    async with connection.transaction():
        if not await store.lock_expired_lease(connection, lease_id):
            return None
        if amid is not None:
            await amid()
        await store.note_loss(connection, lease_id)
        rescued = await store.rescue(connection, lease_id, most, losses)
        if len(rescued) < most:
            await store.delete_lease(connection, lease_id)
    return len(rescued)


async def keep_up(store: Store, connection: Connection) -> None:
    """Do each chore of the upkeep that moves jobs, once."""
    for lease in await connection.fetch("select id from pgqueue.lease where expires_at <= now()"):
        await rescue(store, connection, lease["id"], 1000, 3)
    await store.carry_out_cancels(connection, 1000)
    await store.expire(connection, 1000)
    await store.promote(connection, 1000)
    await store.wake(connection, 1000)
    await store.unblock(connection, 1000)
    await store.sweep_edges(connection, ZERO, 1000, 0.0)
    await store.sweep_gates(connection, ZERO, 1000)
    await store.sweep_limiters(connection, ZERO, 1000)
    await store.watch_workflows(connection, ZERO, 1000)
    await attend(store, connection)


async def _let_go(store: Store, connection: Connection) -> None:
    """Do what operators and callers do, so that nothing waits for them."""
    for row in await connection.fetch("select kind, name from pgqueue.setting where paused_at is not null"):
        await connection.execute("select pgqueue.set_paused($1, $2, false)", row["kind"], row["name"])
    for row in await connection.fetch("select id from pgqueue.workflow where paused_at is not null"):
        await store.pause_workflow(connection, row["id"], paused=False)
    for row in await connection.fetch("select distinct rule, key from pgqueue.stopped"):
        await connection.execute("select pgqueue.resume_key($1, $2)", row["rule"], row["key"])
    for row in await connection.fetch("select job_id, waits from pgqueue.blocked where waits is not null"):
        await connection.execute("select pgqueue.signal($1, $2)", row["job_id"], row["waits"])


async def drain(store: Store, connection: Connection) -> list[UUID]:
    """Have all jobs end; return those that a worker ran, in their order."""
    ran: list[UUID] = []
    for _ in range(ROUNDS):
        await _let_go(store, connection)
        await pass_time(connection, DAY)
        await keep_up(store, connection)
        lanes = await connection.fetch("select id from pgqueue.lane order by priority desc, id")
        lease_id = uuid4()
        await store.register_lease(
            connection, lease_id, "drain", ["default"], 3600, prefetch=0, lock_key=None, max_losses={}
        )
        if lanes:
            jobs = await store.claim(connection, lease_id, 1000, [(row["id"], 0) for row in lanes])
            ids = [job.id for job in jobs]
            ran += ids
            if ids:
                await store.finish(connection, lease_id, "drain", ids, None)
        await store.delete_lease(connection, lease_id)
        await attend(store, connection)
        if not await connection.fetchval("select count(*) from pgqueue.job where status is null"):
            break
    else:
        left = await connection.fetch(
            "select id, status, task from pgqueue.jobs where status is not null limit 5"
        )
        stuck = await connection.fetch(
            "select blocked.*, job.gates from pgqueue.blocked join pgqueue.job on job.id = job_id limit 5"
        )
        raise AssertionError(f"jobs do not end: {left} {stuck}")
    await keep_up(store, connection)
    found = await violations(connection)
    assert not found, "; ".join(found)
    return ran


async def forget_all(store: Store, connection: Connection) -> None:
    """Remove all jobs by retention, once all have ended, and see that nothing of them is left."""
    await pass_time(connection, 400 * DAY)
    # Dead letters that stop an ordered key are kept for it.
    await connection.execute(
        "select pgqueue.resume_key(rule, key) "
        "from (select distinct rule, key from pgqueue.stopped) as stopped"
    )
    for _ in range(3):
        await store.purge(connection, FIRST_ID, LAST_ID, 10_000, ALL)
    await store.purge_keys(connection, 10_000)
    await connection.execute("delete from pgqueue.idempotency_key where span = 'forever'")
    await store.purge_inbox(connection, 10_000)
    await pass_time(connection, DAY)
    await store.expire(connection, 10_000)
    await store.carry_out_cancels(connection, 10_000)
    for _ in range(2):
        await pass_time(connection, DAY)
        await store.sweep_gates(connection, ZERO, 10_000)
        await store.sweep_limiters(connection, ZERO, 10_000)
        await attend(store, connection)
    left = await left_over(connection)
    assert not left, "; ".join(left)
