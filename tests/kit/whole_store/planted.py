"""Faults to plant, one at a time: guards that are taken away. The model has to find each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kit import inside
from kit.whole_store.world import World


@dataclass(frozen=True)
class Fault:
    """A guard in a statement of `sql/` or a function of the database, and what stands there without it."""

    where: str
    guard: str
    instead: str
    is_function: bool = False


FAULTS = {
    "the fence of finish": Fault("finish", "and lease_id = $1 ", "and $1::uuid is not null "),
    "the fence of a step": Fault("record_step", "and lease_id = $2", "and $2::uuid is not null"),
    "the deletion from the place": Fault(
        "expire",
        "delete from pgqueue.ready where job_id = any(array(select id from locked)) "
        "returning job_id, attempt",
        "select job_id, attempt from pgqueue.ready where job_id = any(array(select id from locked))",
    ),
    "the lock that keeps a rescue from missing a claim": Fault("claim", "for key share", ""),
    "the lock of the rescuer": Fault("lock_expired_lease", "for update skip locked", ""),
    "the lock of what is rescued": Fault("rescue", "limit $2 for update", "limit $2"),
    "the attempt that was lost": Fault(
        "rescue", "case when started_at is null then attempt else greatest(attempt, 1) - 1 end", "attempt"
    ),
    "the release of a key": Fault(
        "is_held", "status in ('pending', 'scheduled', 'blocked', 'running')", "true", is_function=True
    ),
    "the hold of a key": Fault(
        "is_held", "status in ('pending', 'scheduled', 'blocked', 'running')", "false", is_function=True
    ),
    "what is given back to a limit": Fault(
        "give_back",
        "delete from pgqueue.gate_pass where job_id = any(ids) and kept is null returning gate",
        "select gate from pgqueue.gate_pass where job_id = any(ids) and kept is null",
        is_function=True,
    ),
    "the note that a limit has room": Fault(
        "give_back", "select gate, 'gate', count(*) from freed group by gate",
        "select gate, 'gate', count(*) from freed where false group by gate", is_function=True,
    ),
    "the request to cancel that a retry heeds": Fault(
        "retry",
        "select job_id from pgqueue.cancel_request where job_id = any($2::pg_catalog.uuid[])",
        "select job_id from pgqueue.cancel_request where false",
    ),
    "the pause that a claim heeds": Fault("claim", "where walk.lane <> all(paused.lanes)", ""),
}  # fmt: skip


@asynccontextmanager
async def planted(world: World, fault: Fault) -> AsyncIterator[None]:
    """Take a guard away while the context lasts."""
    if fault.is_function:
        whole = await world.db.fetchval(
            "select pg_get_functiondef(oid) from pg_proc "
            "where pronamespace = 'pgqueue'::regnamespace and proname = $1",
            fault.where,
        )
        assert fault.guard in whole, f"{fault.where} has no such guard"
        await world.db.execute(whole.replace(fault.guard, fault.instead))
        try:
            yield
        finally:
            await world.db.execute(whole)
        return
    whole = inside.statement(world.store, fault.where)
    assert fault.guard in whole, f"{fault.where} has no such guard"
    inside.mend_statements(world.store, {fault.where: whole.replace(fault.guard, fault.instead)})
    try:
        yield
    finally:
        inside.mend_statements(world.store, {fault.where: whole})
