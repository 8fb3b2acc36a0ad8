"""Whatever moves a job with limits: what it no longer needs goes to the next, and never to two.

Nothing here sweeps gates: the sweep would find what a door has forgotten, a minute later.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from kit import inside
from kit.faults import Ghost, ghost
from kit.hostile import ADD_COLUMNS

from pgqueue import PgQueue, chain
from pgqueue.database.sql import ROOT
from pgqueue.model.dead_letters import DeadLetterFilter
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, PutAside, Restarted, Retried, Suspended
from pgqueue.options.retention import Retention
from pgqueue.store.values import Settled, Underway

if TYPE_CHECKING:
    from conftest import Connection

ERROR = JobError("ValueError", "no")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)


@dataclass
class Kind:
    """A way to be limited to one at a time: makes a job, and returns its id."""

    make: Callable[[], Awaitable[UUID]]
    waits: bool = True
    """Whether what does not get through waits."""
    is_ordered: bool = False
    """Whether it keeps its slot while it waits for something else."""


@dataclass
class House:
    """A kind of each, with a job that has got through, and others that have not."""

    pgq: PgQueue
    db: Connection
    holder: Ghost
    kinds: Mapping[str, Kind]
    jobs: dict[str, list[UUID]]

    @classmethod
    async def of(cls, pgq: PgQueue, db: Connection, holder: Ghost) -> House:
        house = cls(pgq, db, holder, await kinds_of(pgq), {})
        for name, kind in house.kinds.items():
            house.jobs[name] = [await kind.make() for _ in range(3)]
        return house

    @property
    def held(self) -> list[UUID]:
        """The jobs that have got through."""
        return [ids[0] for ids in self.jobs.values()]

    async def waiting(self) -> list[UUID]:
        """Return of each kind the first job that waits, if any does."""
        found = []
        for ids in self.jobs.values():
            for job_id in ids:
                if await self.db.fetchval("select gate from pgqueue.blocked where job_id = $1", job_id):
                    found.append(job_id)
                    break
        return found

    async def attend(self) -> None:
        """Attend to all that was noted."""
        while (await self.holder.store.attend(self.holder.connection, None, 1000)).taken:
            pass

    async def places(self, kind: str) -> list[str | None]:
        return [
            await self.db.fetchval("select pgqueue.status_of($1)::text", job_id) for job_id in self.jobs[kind]
        ]

    async def check(self) -> None:
        """See that of each kind one is let through, and the rest waits for that alone."""
        for name, kind in self.kinds.items():
            through, waiting = 0, 0
            for job_id in self.jobs[name]:
                stands = await self.db.fetchrow(
                    "select exists (select from pgqueue.ready where job_id = $1) "
                    "    or exists (select from pgqueue.running where job_id = $1) as through, "
                    "  exists (select from pgqueue.blocked where job_id = $1 and gate is not null) as waits",
                    job_id,
                )
                assert stands is not None
                through += stands["through"]
                waiting += stands["waits"]
            assert through <= 1, (name, await self.places(name))
            assert through == 1 or not waiting or kind.is_ordered, (name, await self.places(name))

    async def drain(self) -> None:
        """Have all jobs end, one after another."""
        holder, db, connection = self.holder, self.db, self.holder.connection
        await db.execute("select pgqueue.set_paused('queue', 'default', false)")
        for number in range(30):
            await connection.execute("update pgqueue.scheduled set scheduled_at = now()")
            await holder.store.promote(connection, 100)
            await connection.execute("update pgqueue.blocked set wake_at = now() where waits is not null")
            await holder.store.wake(connection, 100)
            await holder.store.unblock(connection, 100)
            await self.attend()
            await self.check()
            await holder.claim()
            running = [row[0] for row in await db.fetch("select job_id from pgqueue.running")]
            await connection.execute(
                "update pgqueue.running set started_at = now(), lease_id = $1", holder.lease_id
            )
            # By hand-over, or by notes alone.
            settled = Settled() if number % 2 else None
            await holder.store.finish(connection, holder.lease_id, holder.name, running, None, settled)
            await self.attend()
            if not await db.fetchval("select count(*) from pgqueue.job where status is null"):
                break
        stuck = await db.fetch("select id, task from pgqueue.job where status is null")
        assert [(row["task"], await place(db, row["id"])) for row in stuck] == []

    async def check_that_nothing_is_held(self) -> None:
        """See that all slots are there, and no more."""
        assert await self.db.fetchval("select count(*) from pgqueue.gate_pass") == 0
        for limit in await self.pgq.limits():
            assert (limit.in_use, limit.waiting) == (0, 0), limit.name
        for name, kind in self.kinds.items():
            self.jobs[name] = [await kind.make() for _ in range(2)]
            first, second = await self.places(name)
            assert (first, second) == ("pending", "blocked" if kind.waits else "cancelled"), name


async def place(db: Connection, job_id: UUID) -> dict[str, Any]:
    """Return where a job stands, for the message of a failure."""
    found: dict[str, Any] = {}
    for table in ("ready", "running", "scheduled", "blocked"):
        row = await db.fetchrow(f"select * from pgqueue.{table} where job_id = $1", job_id)
        if row is not None:
            found[table] = {name: value for name, value in row.items() if value is not None}
    return found


async def kinds_of(  # noqa: C901  # a function a task
    pgq: PgQueue,
) -> dict[str, Kind]:
    limits = {name: pgq.limit(name, slots=1) for name in ("one", "keyed", "first", "last", "link", "tick")}
    pgq.queue("narrow", slots=1)

    @pgq.task(limits=[limits["one"]])
    async def one() -> None: ...

    @pgq.task(limits=[limits["keyed"].by("key")])
    async def keyed(key: str) -> None: ...

    @pgq.task(limits=[limits["first"], limits["last"].by("key")])
    async def two(key: str) -> None: ...

    @pgq.task(queue="narrow")
    async def queued() -> None: ...

    @pgq.task(limits=[pgq.limit("drop", slots=1, when_full="drop")])
    async def dropped() -> None: ...

    @pgq.task(limits=[pgq.limit("replace", slots=1, when_full="replace")])
    async def replaced() -> None: ...

    @pgq.task(ordered_by=pgq.ordered("account", on_dead="skip").by("key"))
    async def ordered(key: str) -> None: ...

    @pgq.task(limits=[limits["link"]])
    async def link() -> None: ...

    @pgq.task
    async def free() -> None: ...

    @pgq.task(limits=[limits["tick"]])
    async def tick() -> None: ...

    await pgq.schedules.create("tick", tick.s(), every=timedelta(days=1))

    async def enqueue(call: Any) -> UUID:
        return UUID(str((await pgq.enqueue(call)).id))

    async def in_workflow() -> UUID:
        await pgq.enqueue_workflow(chain(link.si(), free.si()))
        async with inside.database(pgq).acquire() as connection:
            return UUID(
                str(await connection.fetchval("select max(id::text) from pgqueue.job where task = 'link'"))
            )

    async def by_schedule() -> UUID:
        job_id = await pgq.schedules.run_now("tick")
        assert job_id is not None
        return job_id

    return {
        "one": Kind(lambda: enqueue(one.s())),
        "keyed": Kind(lambda: enqueue(keyed.s("a"))),
        "two": Kind(lambda: enqueue(two.s("a"))),
        "queue": Kind(lambda: enqueue(queued.s())),
        "drop": Kind(lambda: enqueue(dropped.s()), waits=False),
        "replace": Kind(lambda: enqueue(replaced.s())),
        "ordered": Kind(lambda: enqueue(ordered.s("a")), is_ordered=True),
        "member": Kind(in_workflow),
        "schedule": Kind(by_schedule),
    }


# What is done to jobs that have got through, by the statements and functions that do it

Act = Callable[[House, Sequence[UUID]], Awaitable[object]]
DOORS: dict[str, Act] = {}
DRIVEN: set[str] = set()
KEEPING: set[str] = set()
"""Doors behind which a job is still ready or running, and keeps its slot."""


def door(*names: str, keeps: bool = False) -> Callable[[Act], Act]:
    """Add a door, which the statements and functions *names* are."""

    def add(act: Act) -> Act:
        name = act.__name__.replace("_", " ").strip()
        DOORS[name] = act
        DRIVEN.update(names)
        if keeps:
            KEEPING.add(name)
        return act

    return add


async def each(db: Connection, sql: str, ids: Sequence[UUID], *more: object) -> None:
    for job_id in ids:
        await db.execute(sql, job_id, *more)


async def writing(house: House, sql: str, *more: object) -> None:
    await house.holder.connection.execute(sql, *more)


@door("claim", "finish", "settle", "give_back")
async def finish(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.claim()
    holder = house.holder
    await holder.store.finish(holder.connection, holder.lease_id, holder.name, ids, None)


@door("settle_and_hand_over", "hand_over", "hand_lines_over")
async def finish_and_let_the_next_ones_through(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.claim()
    holder = house.holder
    await holder.store.finish(holder.connection, holder.lease_id, holder.name, ids, None, Settled())


@door("claim_one", keeps=True)
async def claim_by_id(house: House, ids: Sequence[UUID]) -> None:
    for job_id in ids:
        await house.holder.store.claim_one(house.holder.connection, house.holder.lease_id, job_id)


@door("fail")
async def fail(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    await holder.claim()
    ends = [Ended(job_id, JobStatus.FAILED, "exception", ERROR) for job_id in ids]
    await holder.store.fail(holder.connection, holder.lease_id, holder.name, ends)


@door("fail")
async def expire_at_the_claim(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    await holder.claim()
    ends = [Ended(job_id, JobStatus.EXPIRED, "expired", None) for job_id in ids]
    await holder.store.fail(holder.connection, holder.lease_id, holder.name, ends)


@door("fail_broken")
async def fail_broken(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    for job_id in ids:
        await holder.store.fail_broken(holder.connection, job_id, "broken_row", ERROR, holder.name, None)


@door("fail_broken")
async def fail_broken_while_running(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    await holder.claim()
    for job_id in ids:
        await holder.store.fail_broken(
            holder.connection, job_id, "broken_row", ERROR, holder.name, holder.lease_id
        )


@door("retry")
async def retry(house: House, ids: Sequence[UUID]) -> None:
    await _retry(house, ids)


async def _retry(house: House, ids: Sequence[UUID], *, delay: float = 3600.0, is_spent: bool = True) -> None:
    holder = house.holder
    await holder.claim()
    retries = [Retried(job_id, delay, "exception", ERROR, spent=is_spent) for job_id in ids]
    await holder.store.retry(holder.connection, holder.lease_id, holder.name, retries)


@door("retry")
async def snooze(house: House, ids: Sequence[UUID]) -> None:
    await _retry(house, ids, is_spent=False)


@door("retry", "promote", "gate_in", "attend_gates", "attend_simple_gates", "attend_lines", "attend_newcomer")
async def retry_and_come_again(house: House, ids: Sequence[UUID]) -> None:
    await _retry(house, ids, delay=0.0)
    await house.holder.store.promote(house.holder.connection, 1000)


@door("retry")
async def retry_of_one_that_is_to_be_cancelled(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.claim()
    await each(house.db, "select pgqueue.cancel($1)", ids)
    await _retry(house, ids)


@door("release", keeps=True)
async def release(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    await holder.claim()
    await holder.store.release(holder.connection, holder.lease_id, holder.name, ids)


@door("release")
async def release_of_one_that_is_to_be_cancelled(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    await holder.claim()
    await each(house.db, "select pgqueue.cancel($1)", ids)
    await holder.store.release(holder.connection, holder.lease_id, holder.name, ids)


@door("release_unknown", keeps=True)
async def release_unknown(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    await holder.claim()
    await holder.store.release_unknown(holder.connection, holder.lease_id, [])


@door("put_aside", keeps=True)
async def put_aside(house: House, ids: Sequence[UUID]) -> None:
    await _put_aside(house, ids)


async def _put_aside(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    await holder.claim()
    rows = await house.db.fetch(
        "select job.id, lane.queue, lane.priority, job.task from pgqueue.job "
        "join pgqueue.lane on lane.id = job.lane where job.id = any($1)",
        ids,
    )
    await holder.store.make_lanes(
        holder.connection, [(row["queue"], row["priority"], row["task"]) for row in rows]
    )
    asides = [PutAside(row["id"], row["task"], row["queue"], row["priority"]) for row in rows]
    await holder.store.put_aside(holder.connection, holder.lease_id, asides)


@door("put_aside", "fail_unknown")
async def fail_unknown(house: House, ids: Sequence[UUID]) -> None:
    await _put_aside(house, ids)
    await writing(house, "update pgqueue.ready set ready_at = now() - interval '1 hour'")
    await writing(house, "update pgqueue.lease set tasks = '{}'")
    await house.holder.store.fail_unknown(house.holder.connection, 60, [], 100)


@door("prefetch", "start", "secure_claim", "hold_suspects", keeps=True)
async def prefetch_start_and_suspect(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    await holder.prefetch()
    await holder.store.start(holder.connection, holder.lease_id, ids)
    for job_id in ids:
        await holder.store.secure_claim(holder.connection, job_id, holder.lease_id)
    await holder.store.hold_suspects(holder.connection, holder.lease_id, ids)


@door("prefetch", "take_over_prefetched", keeps=True)
async def take_over_prefetched(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.prefetch()
    lanes = [row[0] for row in await house.db.fetch("select id from pgqueue.lane")]
    async with ghost(house.pgq) as other:
        await other.store.take_over_prefetched(other.connection, other.lease_id, 100, lanes)


@door("take_again", keeps=True)
async def take_again(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    claimed = await holder.claim()
    # As a crashed server forgets a claim.
    await writing(
        house,
        "with forgotten as (delete from pgqueue.running returning *) "
        "insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses) "
        "select job_id, ready_at, position, lane, attempt - 1, losses from forgotten",
    )
    underway = [Underway(job.id, job.attempt, job.losses, 0.0) for job in claimed if job.id in ids]
    taken = await holder.store.take_again(holder.connection, holder.lease_id, underway)
    assert taken == dict.fromkeys(ids, "taken")


async def _lose(house: House, max_losses: int) -> None:
    holder = house.holder
    await holder.die()
    async with holder.connection.transaction():
        await holder.store.lock_expired_lease(holder.connection, holder.lease_id)
        await holder.store.rescue(holder.connection, holder.lease_id, 100, max_losses)
    await writing(house, "update pgqueue.lease set expires_at = now() + interval '1 hour'")


@door("rescue", keeps=True)
async def rescue(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.claim()
    await _lose(house, 9)


@door("rescue", keeps=True)
async def rescue_of_prefetched_ones(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.prefetch()
    await _lose(house, 0)


@door("rescue")
async def rescue_of_those_lost_too_often(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.claim()
    await _lose(house, 0)


@door("rescue")
async def rescue_of_those_that_are_to_be_cancelled(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.claim()
    await each(house.db, "select pgqueue.cancel($1)", ids)
    await _lose(house, 9)


@door("cancel")
async def request_to_cancel_that_is_carried_out_late(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    await holder.claim()
    await holder.store.release(holder.connection, holder.lease_id, holder.name, ids)
    await each(
        holder.connection,
        "insert into pgqueue.cancel_request (job_id, lease_id) values ($1, gen_random_uuid())",
        ids,
    )
    await holder.store.carry_out_cancels(holder.connection, 100)


@door("expire")
async def expire(house: House, ids: Sequence[UUID]) -> None:
    await writing(
        house, "update pgqueue.job set expires_at = now() - interval '1 minute' where id = any($1)", ids
    )
    sql = (
        "insert into pgqueue.expiry (job_id, check_at) values ($1, now()) "
        "on conflict (job_id) do update set check_at = now()"
    )
    await each(house.holder.connection, sql, ids)
    await house.holder.store.expire(house.holder.connection, 100)


@door("cancel")
async def cancel(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.cancel($1)", ids)


@door("cancel")
async def cancel_of_prefetched_ones(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.prefetch()
    await each(house.db, "select pgqueue.cancel($1)", ids)


@door("cancel", "transition")
async def cancel_of_scheduled_ones(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.transition($1, 'scheduled', at => now() + interval '1 h')", ids)
    await each(house.db, "select pgqueue.cancel($1)", ids)


@door("cancel", "transition")
async def cancel_of_blocked_ones(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.transition($1, 'blocked')", ids)
    await each(house.db, "select pgqueue.cancel($1)", ids)


@door("transition", keeps=True)
async def start_by_hand(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.transition($1, 'running', $2)", ids, house.holder.lease_id)


@door("transition", keeps=True)
async def stop_by_hand(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.claim()
    await each(house.db, "select pgqueue.transition($1, 'pending', $2)", ids, house.holder.lease_id)


@door("transition")
async def succeed_by_hand(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.claim()
    await each(house.db, "select pgqueue.transition($1, 'succeeded', $2)", ids, house.holder.lease_id)


@door("transition")
async def fail_by_hand(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.transition($1, 'failed')", ids)


@door("transition")
async def schedule_by_hand(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.claim()
    sql = "select pgqueue.transition($1, 'scheduled', $2, at => now() + interval '1 hour')"
    await each(house.db, sql, ids, house.holder.lease_id)


@door("run_now")
async def run_now(house: House, ids: Sequence[UUID]) -> None:
    await schedule_by_hand(house, ids)
    await each(house.db, "select pgqueue.run_now($1)", ids)


@door("transition", "gate_in")
async def block_and_unblock_by_hand(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.claim()
    await each(house.db, "select pgqueue.transition($1, 'blocked', $2)", ids, house.holder.lease_id)
    await house.attend()
    await house.check()
    await each(house.db, "select pgqueue.transition($1, 'pending')", ids)


async def _suspend(house: House, ids: Sequence[UUID], nodes: Sequence[UUID] = ()) -> None:
    holder = house.holder
    await holder.claim()
    waits = [
        Suspended(job_id, None, None, None, (node,)) if nodes else Suspended(job_id, None, None, "called")
        for job_id, node in zip(ids, nodes or ids, strict=True)
    ]
    await holder.store.suspend(holder.connection, holder.lease_id, waits)


@door("suspend")
async def suspend(house: House, ids: Sequence[UUID]) -> None:
    await _suspend(house, ids)


@door("suspend", keeps=True)
async def suspend_for_what_is_there(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.claim()
    await each(house.db, "select pgqueue.signal($1, 'called')", ids)
    await _suspend(house, ids)


@door("suspend", "signal")
async def suspend_and_signal(house: House, ids: Sequence[UUID]) -> None:
    await _suspend(house, ids)
    await house.attend()
    await house.check()
    await each(house.db, "select pgqueue.signal($1, 'called')", ids)


@door("suspend", "signal")
async def suspend_and_signal_before_the_notes_are_attended_to(house: House, ids: Sequence[UUID]) -> None:
    await _suspend(house, ids)
    await each(house.db, "select pgqueue.signal($1, 'called')", ids)


@door("suspend", "wake")
async def suspend_and_wake(house: House, ids: Sequence[UUID]) -> None:
    await _suspend(house, ids)
    await house.attend()
    await each(house.db, "select pgqueue.signal($1, 'called', defer => true)", ids)
    await house.holder.store.wake(house.holder.connection, 100)


@door("suspend", "to_ready")
async def suspend_until_others_have_ended(house: House, ids: Sequence[UUID]) -> None:
    others = [UUID(str(await house.db.fetchval("select pgqueue.enqueue('free')"))) for _ in ids]
    await _suspend(house, ids, others)
    await house.attend()
    await house.check()
    await each(house.db, "select pgqueue.transition($1, 'failed', $2)", others, house.holder.lease_id)


@door("restart", keeps=True)
async def restart(house: House, ids: Sequence[UUID]) -> None:
    holder = house.holder
    await holder.claim()
    await holder.store.restart(
        holder.connection, holder.lease_id, [Restarted(job_id, "{}") for job_id in ids]
    )


@door("reopen", "rearm")
async def redrive(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.transition($1, 'failed')", ids)
    await each(house.db, "select pgqueue.redrive($1)", ids)


@door("reopen", "rearm", "spoil")
async def redrive_once_all_is_attended_to(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.transition($1, 'failed')", ids)
    await house.attend()
    await house.check()
    await each(house.db, "select pgqueue.redrive($1)", ids)


@door("reopen")
async def redrive_of_many(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.transition($1, 'failed')", ids)
    store, connection = house.holder.store, house.holder.connection
    wanted = DeadLetterFilter()
    await store.begin_redrive(
        connection, uuid4(), wanted, rate=1e6, queue=None, reset_attempts=True, reason=None, actor=None
    )
    await writing(house, "update pgqueue.mass_redrive set carried_at = now() - interval '1 minute'")
    await store.carry_redrive(connection, 100)


@door("reopen")
async def requeue(house: House, ids: Sequence[UUID]) -> None:
    await finish(house, ids)
    await house.attend()
    statuses = [JobStatus.SUCCEEDED]
    await house.holder.store.requeue_jobs(house.holder.connection, ids, statuses, None, None)


@door()
async def discard(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.transition($1, 'failed')", ids)
    await each(house.db, "select pgqueue.discard($1)", ids)


@door("fork")
async def fork(house: House, ids: Sequence[UUID]) -> None:
    for job_id in ids:
        await house.db.execute(
            "insert into pgqueue.step (job_id, name, result) values ($1, 'first', '1')", job_id
        )
    await finish(house, ids)
    for jobs in house.jobs.values():
        copy = UUID(str(await house.db.fetchval("select pgqueue.uuid7()")))
        assert await house.holder.store.fork(house.holder.connection, jobs[0], "first", copy)
        jobs.append(copy)


@door("reprioritise", keeps=True)
async def reprioritise(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.reprioritise($1, 7)", ids)


@door("edit", keeps=True)
async def edit(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.edit($1, priority => 7)", ids)


@door("edit", "gate_anew")
async def edit_to_other_keys_and_back(house: House, ids: Sequence[UUID]) -> None:
    sql = "select pgqueue.edit($1, queue => $2, arguments => '{}', gates => $3)"
    stood = [
        await house.db.fetchrow(
            "select job.gates, lane.queue from pgqueue.job join pgqueue.lane on lane.id = job.lane "
            "where job.id = $1",
            job_id,
        )
        for job_id in ids
    ]
    for number, job_id in enumerate(ids):
        gates = json.dumps([("elsewhere", str(job_id)), ("else", "")])
        await house.db.execute(sql, job_id, "elsewhere" if number % 2 else None, gates)
    await house.attend()
    for job_id, row in zip(ids, stood, strict=True):
        assert row is not None
        gates = json.dumps(list(zip(row["gates"][::2], row["gates"][1::2], strict=True)))
        await house.db.execute(sql, job_id, row["queue"], gates)


async def _receive(house: House, verb: str) -> None:
    for queue in ("default", "narrow"):
        sql = "select id, receipt from pgqueue.receive($1, 1000, interval '1 hour', upkeep => false)"
        for row in await house.db.fetch(sql, queue):
            await house.db.execute(f"select pgqueue.{verb}", row["id"], row["receipt"])


@door("receive", "end_receipt")
async def receive_and_acknowledge(house: House, ids: Sequence[UUID]) -> None:
    await _receive(house, "ack($1, $2)")


@door("receive", "end_receipt", "attend_receivers")
async def receive_and_come_again(house: House, ids: Sequence[UUID]) -> None:
    await _receive(house, "nack($1, $2, interval '1 hour')")
    await writing(house, "update pgqueue.scheduled set scheduled_at = now()")
    for queue in ("default", "narrow"):
        await house.db.execute("select pgqueue.attend_receivers($1)", queue)


@door("set_paused", "return_paused")
async def pause_the_queue(house: House, ids: Sequence[UUID]) -> None:
    await house.holder.prefetch()
    for queue in ("default", "narrow"):
        await house.pgq.pause(queue=queue)
    await house.attend()
    for queue in ("default", "narrow"):
        await house.pgq.resume(queue=queue)


@door("cancel")
async def cancel_the_workflow(house: House, ids: Sequence[UUID]) -> None:
    for row in await house.db.fetch("select id from pgqueue.workflow"):
        await house.pgq.cancel_workflow(row["id"])


@door("to_ready", keeps=True)
async def pause_and_resume_the_workflow(house: House, ids: Sequence[UUID]) -> None:
    for paused in (True, False):
        for row in await house.db.fetch("select id from pgqueue.workflow"):
            await house.db.execute("select pgqueue.pause_workflow($1, $2)", row["id"], paused)
        await house.attend()


@door("unblock")
async def follow_another_and_go_on(house: House, ids: Sequence[UUID]) -> None:
    other = UUID(str(await house.db.fetchval("select pgqueue.enqueue('free')")))
    await each(house.db, "select pgqueue.transition($1, 'blocked')", ids)
    await writing(house, "update pgqueue.blocked set waits_for = $1 where job_id = any($2)", other, ids)
    await each(house.db, "select pgqueue.cancel($1)", [other])
    await house.holder.store.unblock(house.holder.connection, 100)


@door("replace_jobs", keeps=True)
async def replace(house: House, ids: Sequence[UUID]) -> None:
    await _replace(house, ids, None)


@door("replace_jobs")
async def replace_by_a_later_one(house: House, ids: Sequence[UUID]) -> None:
    await _replace(house, ids, 3600.0)


async def _replace(house: House, ids: Sequence[UUID], delay: float | None) -> None:
    for job_id in ids:
        row = await house.db.fetchrow(
            "select task, queue, arguments::text from pgqueue.jobs where id = $1", job_id
        )
        assert row is not None
        call = {"job_id": job_id, "task": row["task"], "arguments": row["arguments"], "queue": row["queue"]}
        await house.db.execute(
            "select pgqueue.replace_jobs(json_build_array(json_build_object('job_id', $1::uuid, "
            "'task', $2::text, 'arguments', $3::text, 'queue', $4::text, 'priority', 0, "
            "'delay', $5::float8)))",
            *call.values(),
            delay,
        )


@door("keep_one_place", keeps=True)
async def stand_in_two_places(house: House, ids: Sequence[UUID]) -> None:
    await each(
        house.holder.connection,
        "insert into pgqueue.scheduled (job_id, scheduled_at, lane) "
        "select job_id, now(), lane from pgqueue.ready where job_id = $1",
        ids,
    )
    await house.holder.store.keep_one_place(house.holder.connection, ids)


@door("queue_strays", keeps=True)
async def lose_the_place(house: House, ids: Sequence[UUID]) -> None:
    await writing(house, "delete from pgqueue.ready where job_id = any($1)", ids)
    await house.holder.store.queue_strays(house.holder.connection, ids)


@door("purge")
async def purge(house: House, ids: Sequence[UUID]) -> None:
    await finish(house, ids)
    await writing(house, "update pgqueue.job set completed_at = $1 where id = any($2)", LONG_AGO, ids)
    day = timedelta(days=1).total_seconds()
    retention = Retention(day, day, day, day)
    await house.holder.store.purge(house.holder.connection, FIRST, LAST, 1000, retention)


# The tests


@pytest.fixture
async def house(pgq: PgQueue, db: Connection) -> AsyncIterator[House]:
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    await db.execute(ADD_COLUMNS)
    async with ghost(pgq) as holder:
        await holder.connection.execute("set pgqueue.writer to 'on'")
        yield await House.of(pgq, db, holder)


@pytest.mark.contract("P3.13")
@pytest.mark.parametrize("name", DOORS)
async def test_whatever_is_done_to_a_job_that_got_through_its_slot_is_used_by_one(
    house: House, name: str
) -> None:
    held = house.held
    await house.check()

    await DOORS[name](house, held)
    await house.attend()

    await house.check()
    through = await house.db.fetchval(
        "select count(*) from (select job_id from pgqueue.ready "
        "union all select job_id from pgqueue.running) as through where job_id = any($1)",
        held,
    )
    assert through == len(held) or name not in KEEPING
    await house.drain()
    await house.check_that_nothing_is_held()


# What waits behind a limit

WAITING: dict[str, Act] = {}


def waiting_door(*names: str) -> Callable[[Act], Act]:
    """Add a door for jobs that wait behind a limit."""

    def add(act: Act) -> Act:
        WAITING[act.__name__.replace("_", " ").strip()] = act
        DRIVEN.update(names)
        return act

    return add


for _act in (
    cancel,
    expire,
    fail_broken,
    cancel_the_workflow,
    pause_and_resume_the_workflow,
    reprioritise,
    replace,
    replace_by_a_later_one,
    edit_to_other_keys_and_back,
    redrive,
    discard,
    fail_by_hand,
    pause_the_queue,
):
    WAITING[_act.__name__.replace("_", " ")] = _act


@waiting_door("transition")
async def make_pending_by_hand(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.transition($1, 'pending')", ids)


@waiting_door("transition")
async def make_scheduled_by_hand(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.transition($1, 'scheduled', at => now() + interval '1 hour')", ids)


@waiting_door("transition")
async def make_blocked_by_hand(house: House, ids: Sequence[UUID]) -> None:
    for job_id in ids:
        with suppress(asyncpg.PostgresError):
            await house.db.execute("select pgqueue.transition($1, 'blocked')", job_id)


@waiting_door()
async def send_an_event(house: House, ids: Sequence[UUID]) -> None:
    await each(house.db, "select pgqueue.signal($1, 'called')", ids)
    await each(house.db, "select pgqueue.signal($1, 'again', defer => true)", ids)
    await house.holder.store.wake(house.holder.connection, 100)


@waiting_door("keep_one_place")
async def wait_in_two_places(house: House, ids: Sequence[UUID]) -> None:
    await each(
        house.holder.connection,
        "insert into pgqueue.scheduled (job_id, scheduled_at, lane) "
        "select job_id, now(), lane from pgqueue.blocked where job_id = $1",
        ids,
    )
    await house.holder.store.keep_one_place(house.holder.connection, ids)


@waiting_door("queue_strays")
async def lose_the_waiting_place(house: House, ids: Sequence[UUID]) -> None:
    await writing(house, "delete from pgqueue.blocked where job_id = any($1)", ids)
    await house.holder.store.queue_strays(house.holder.connection, ids)


@waiting_door()
async def delete_the_record(house: House, ids: Sequence[UUID]) -> None:
    store, connection = house.holder.store, house.holder.connection
    await writing(house, "delete from pgqueue.job where id = any($1)", ids)
    await store.keep_one_place(connection, ids)
    await store.sweep_edges(connection, FIRST, 500, 0)


@pytest.mark.contract("P3.13")
@pytest.mark.parametrize("name", WAITING)
async def test_whatever_is_done_to_a_job_that_waits_for_a_limit_the_others_go_on(
    house: House, name: str
) -> None:
    await WAITING[name](house, await house.waiting())
    await house.attend()

    await house.check()
    await house.drain()
    await house.check_that_nothing_is_held()


# That no door is missing

MOVES = re.compile(
    r"(?:insert\s+into|delete\s+from)\s+pgqueue\.(?:ready|running|scheduled|blocked)\b"
    r"|truncate\s+pgqueue\.(?:ready|running|scheduled|blocked)\b"
    r"|update\s+pgqueue\.job\b(?:(?!\bwhere\b).)*?\bset\b(?:(?!\bwhere\b).)*?\bstatus\s*=",
    re.DOTALL | re.IGNORECASE,
)
ENTRANCES = {
    *("enqueue", "enqueue_one", "enqueue_limited", "enqueue_one_limited", "enqueue_alike"),
    *("schedule", "submit"),
    *("submit_workflow", "write_workflow"),
    # They make jobs, or move those that their own transaction has made.
    *("wait_for", "extend", "call_back", "make_webhooks"),
}
"""Where jobs come in: see `test_every_way_to_enqueue_keeps_to_limits`, which is about these."""


def statements_that_move_jobs() -> dict[str, str]:
    root = Path(str(ROOT))
    texts = {path: path.read_text(encoding="utf-8") for path in root.glob("*/*.sql")}
    return {
        path.stem: text
        for path, text in texts.items()
        if path.parent.name != "migrations" and MOVES.search(text)
    }


async def test_every_statement_and_function_that_moves_jobs_is_one_of_these_doors(db: Connection) -> None:
    functions = await db.fetch(
        "select proname::text as name, coalesce(pg_get_function_sqlbody(oid), prosrc) as text from pg_proc "
        "where pronamespace = 'pgqueue'::regnamespace"
    )
    moving = {row["name"] for row in functions if row["text"] and MOVES.search(row["text"])}
    moving |= statements_that_move_jobs().keys()

    assert {"finish", "settle", "unblock", "wait_for", "attend_gates", "hand_over"} <= moving
    assert moving - DRIVEN - ENTRANCES == set()


# What later calls change of a job


@pytest.mark.contract("P3.13")
async def test_a_call_that_replaces_a_limited_job_gives_it_its_own_limits_and_time(
    pgq: PgQueue, db: Connection
) -> None:
    limit = pgq.limit("tenant", slots=1)

    @pgq.task(limits=[limit.by("tenant")], on_conflict="replace")
    async def work(tenant: str) -> None: ...

    @pgq.task(on_conflict="replace")
    async def free() -> None: ...

    async def stand(job: Any) -> tuple[str, list[str] | None]:
        status, gates = await db.fetchrow(  # type: ignore[misc]
            "select pgqueue.status_of(id)::text, gates from pgqueue.job where id = $1", job.id
        )
        return status, gates

    async with ghost(pgq) as holder:
        house = House(pgq, db, holder, {}, {})
        await work.enqueue("a")
        await work.enqueue("b")
        keyed = work.options(idempotency_key="k", idempotency_scope="global")
        job = await keyed.enqueue("a")
        assert await stand(job) == ("blocked", ["tenant", "a"])
        behind = await work.enqueue("a")

        # To a free key, to one that is taken, and out of all limits.
        assert (await keyed.enqueue("c")).id == job.id
        await house.attend()
        assert await stand(job) == ("pending", ["tenant", "c"])
        await keyed.enqueue("b")
        await house.attend()
        assert await stand(job) == ("blocked", ["tenant", "b"])
        other = await work.enqueue("c")
        assert (await stand(other))[0] == "pending"
        await keyed.options(delay=3600).enqueue("b")
        assert (await stand(job))[0] == "scheduled"
        await keyed.enqueue("a")
        assert (await stand(job))[0] == "blocked"
        await free.options(idempotency_key="k", idempotency_scope="global").enqueue()
        assert await stand(job) == ("pending", None)
        await keyed.enqueue("a")
        await house.attend()
        assert await stand(job) == ("blocked", ["tenant", "a"])
        assert (await stand(behind))[0] == "blocked"
        used = [(each.in_use, each.waiting) for each in await pgq.limits()]
        assert used == [(3, 2)]

        # Calls of one batch that are one call: the first, or the last, with its own limits.
        returned = work.options(idempotency_key="m", on_conflict="return", idempotency_fingerprint=False)
        [first, _] = await pgq.enqueue_many([returned.s("d"), returned.s("e")])
        assert (await stand(first))[1] == ["tenant", "d"]
        replaced = work.options(idempotency_key="n")
        [last, _] = await pgq.enqueue_many([replaced.s("d"), replaced.s("e")])
        assert (await stand(last))[1] == ["tenant", "e"]
        chosen = UUID(str(await db.fetchval("select pgqueue.uuid7()")))
        await pgq.enqueue_many([work.options(id=chosen).s("d"), work.options(id=chosen).s("e")])
        assert await db.fetchval("select gates from pgqueue.job where id = $1", chosen) == ["tenant", "d"]


@pytest.mark.contract("P3.13")
async def test_whoever_commits_late_is_let_through_in_his_turn(pgq: PgQueue, db: Connection) -> None:
    limit = pgq.limit("one", slots=1)

    @pgq.task(limits=[limit])
    async def work() -> None: ...

    async with ghost(pgq) as holder:
        house = House(pgq, db, holder, {}, {})
        first = await work.enqueue()
        async with db.transaction():
            late = await pgq.enqueue(work.s(), connection=db)
            others = [await work.enqueue() for _ in range(2)]
        await house.attend()
        jobs = [first, late, *others]

        for number, job in enumerate(jobs):
            [claimed] = await holder.claim()
            assert claimed.id == job.id, number
            await holder.store.finish(holder.connection, holder.lease_id, holder.name, [job.id], None)
            await house.attend()
