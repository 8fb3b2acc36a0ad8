"""The order of a group holds whatever is done to its jobs, and while many do it at once."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kit import inside
from kit.faults import Ghost, ghost

from pgqueue import PgQueue
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Retried, Suspended

if TYPE_CHECKING:
    from conftest import Connection

ERROR = JobError("ValueError", "no")
LINES = (("order/block", "a"), ("order/skip", "a"), ("order/halt", "a"), ("order/block", "b"))
TENANT = ("tenant", "t")
"""A limit that some of the jobs have, too."""
TABLES = (
    "job, ready, running, scheduled, blocked, gate, gate_state, gate_pass, note, attempt, dead_letter, "
    "action, cancel_request, event, setting, stopped, expiry"
)


@pytest.fixture
async def holder(pgq: PgQueue, db: Connection) -> AsyncIterator[Ghost]:
    await db.execute(
        "select pgqueue.lane_of('default', 0::smallint), pgqueue.lane_of('default', 5::smallint)"
    )
    async with ghost(pgq) as holder:
        yield holder


async def make(db: Connection, *gates: tuple[str, str], priority: int = 0) -> UUID:
    """Enqueue one job that passes *gates*."""
    async with db.transaction():
        job_id = UUID(str(await db.fetchval("select pgqueue.enqueue('work', priority => $1)", priority)))
        await db.execute("select pgqueue.limit_jobs(array[$1::uuid], $2::json)", job_id, json.dumps([gates]))
    return job_id


async def attend(holder: Ghost) -> None:
    """Attend to all that was noted."""
    while (await holder.store.attend(holder.connection, None, 1000)).taken:
        pass


@dataclass
class Line:
    """One key of a group, as the database has it."""

    head: UUID | None = None
    """The job that was let through, and has not ended."""
    head_turn: int = 0
    has_started: bool = False
    waiting: dict[int, UUID] = field(default_factory=dict)
    """By turn, those that wait for theirs."""
    stopped: list[tuple[int, bool]] = field(default_factory=list)
    """The turns of those that stop it, and whether these halt it."""
    live: int = 0
    """Jobs of it that stand where only one may."""

    def stops(self, turn: int) -> bool:
        """Whether a job with this turn may not be let through."""
        return any(halts or at < turn for at, halts in self.stopped)


async def lines(db: Connection) -> dict[tuple[str, str], Line]:
    """Return all lines."""
    found: dict[tuple[str, str], Line] = defaultdict(Line)
    for row in await db.fetch(
        "select job.id, job.status::text, job.gates[1] as rule, job.gates[2] as key, job.turn, "
        "  blocked.gate = pgqueue.key_id(job.gates[1], job.gates[2]) as waits, "
        "  exists (select from pgqueue.gate_pass where job_id = job.id and kept) as is_head, "
        "  exists (select from pgqueue.ready where job_id = job.id) "
        "    or exists (select from pgqueue.running where job_id = job.id) as is_through, "
        "  pgqueue.has_started(job.id) or exists ("
        "    select from pgqueue.running where job_id = job.id and started_at is not null) as started, "
        "  (select halts from pgqueue.stopped where job_id = job.id) as halts "
        "from pgqueue.job left join pgqueue.blocked on blocked.job_id = job.id where job.turn is not null"
    ):
        line = found[row["rule"], row["key"]]
        if row["is_head"]:
            assert row["status"] is None
            assert line.head is None, "two heads"
            line.head, line.head_turn, line.has_started = row["id"], row["turn"], row["started"]
        if row["waits"]:
            line.waiting[row["turn"]] = row["id"]
        if row["is_through"]:
            assert row["is_head"], "nobody let it through"
            line.live += 1
        if row["halts"] is not None:
            line.stopped.append((row["turn"], row["halts"]))
        elif row["status"] in ("failed", "expired"):
            # Skipped, or seen to.
            assert row["rule"] == "order/skip" or row["id"] in SEEN_TO
    return found


SEEN_TO: set[UUID] = set()
"""Jobs that have failed, and that somebody has discarded or passed over."""


class World:
    """Ordered jobs, a worker that claims them, and what is done to them."""

    def __init__(self, db: Connection, holder: Ghost) -> None:
        self.db = db
        self.holder = holder
        self.jobs: list[UUID] = []

    async def begin(self) -> None:
        SEEN_TO.clear()
        connection = self.holder.connection
        await connection.execute(f"truncate {', '.join('pgqueue.' + each for each in TABLES.split(', '))}")
        await connection.execute("update pgqueue.lane set paused = false where paused")
        await connection.execute("delete from pgqueue.limit_rule")
        await self._renew()
        for on_dead in ("block", "skip", "halt"):
            await self.db.execute("select pgqueue.declare_ordered('order/' || $1, $1)", on_dead)
        await self.db.execute("select pgqueue.declare_limit('tenant', 2, 'wait')")

    async def _renew(self) -> None:
        await self.holder.connection.execute(
            "update pgqueue.lease set expires_at = now() + interval '1 hour', beside = null"
        )

    async def _one(self, number: int) -> list[UUID]:
        running = "select job_id from pgqueue.running order by job_id"
        rows = await self.db.fetch(running)
        if not rows:
            await self.attend(number)
            await self.holder.claim(1 + number % 3)
            rows = await self.db.fetch(running)
        return [rows[number % len(rows)][0]] if rows else []

    def _any(self, number: int) -> UUID:
        return self.jobs[number % len(self.jobs)]

    async def make(self, number: int) -> None:
        gates = [LINES[number % len(LINES)], *[TENANT] * (number % 3 == 0)]
        self.jobs.append(await make(self.db, *gates, priority=5 * (number % 2)))

    async def make_for_later(self, number: int) -> None:
        job_id = UUID(str(await self.db.fetchval(
            "select pgqueue.enqueue('work', delay => $1 * interval '1 hour')", 1 + number % 2
        )))  # fmt: skip
        gates = [LINES[number % len(LINES)]]
        await self.db.execute(
            "select pgqueue.limit_jobs(array[$1::uuid], $2::json)", job_id, json.dumps([gates])
        )
        self.jobs.append(job_id)

    async def come_due(self, number: int) -> None:
        await self.holder.connection.execute(
            "update pgqueue.scheduled set scheduled_at = now() where job_id in ("
            "  select job_id from pgqueue.scheduled order by job_id limit $1)",
            1 + number % 3,
        )
        await self.holder.store.promote(self.holder.connection, 1 + number % 3)

    async def make_some_and_roll_back(self, number: int) -> None:
        transaction = self.db.transaction()
        await transaction.start()
        await make(self.db, LINES[number % len(LINES)])
        await transaction.rollback()

    async def claim(self, number: int) -> None:
        await self.holder.claim(1 + number % 3)

    async def prefetch(self, number: int) -> None:
        await self.holder.prefetch(1 + number % 3)

    async def finish(self, number: int) -> None:
        holder = self.holder
        await holder.store.finish(
            holder.connection, holder.lease_id, holder.name, await self._one(number), None
        )

    async def finish_and_roll_back(self, number: int) -> None:
        transaction = self.holder.connection.transaction()
        await transaction.start()
        await self.finish(number)
        await attend(self.holder)
        await transaction.rollback()

    async def fail(self, number: int) -> None:
        holder = self.holder
        ends = [Ended(each, JobStatus.FAILED, "exception", ERROR) for each in await self._one(number)]
        await holder.store.fail(holder.connection, holder.lease_id, holder.name, ends)

    async def retry(self, number: int) -> None:
        holder = self.holder
        seconds = 0.0 if number % 2 else 3600.0
        retries = [Retried(each, seconds, "exception", ERROR) for each in await self._one(number)]
        await holder.store.retry(holder.connection, holder.lease_id, holder.name, retries)

    async def release(self, number: int) -> None:
        holder = self.holder
        await holder.store.release(holder.connection, holder.lease_id, holder.name, await self._one(number))

    async def suspend(self, number: int) -> None:
        holder = self.holder
        waits = [Suspended(each, None, None, "called") for each in await self._one(number)]
        await holder.store.suspend(holder.connection, holder.lease_id, waits)

    async def signal(self, number: int) -> None:
        await self.db.execute(
            "select pgqueue.signal($1, 'called', defer => $2)", self._any(number), number % 2 == 0
        )
        await self.holder.store.wake(self.holder.connection, 10)

    async def rescue(self, number: int) -> None:
        holder = self.holder
        await holder.die()
        async with holder.connection.transaction():
            await holder.store.lock_expired_lease(holder.connection, holder.lease_id)
            await holder.store.rescue(holder.connection, holder.lease_id, 100, number % 2)
        await self._renew()

    async def cancel(self, number: int) -> None:
        await self.db.execute("select pgqueue.cancel($1)", self._any(number))

    async def expire(self, number: int) -> None:
        await self.holder.connection.execute(
            "update pgqueue.job set expires_at = now() where id = $1 and status is null", self._any(number)
        )
        await self.holder.connection.execute(
            "insert into pgqueue.expiry (job_id, check_at) values ($1, now()) "
            "on conflict (job_id) do update set check_at = now()",
            self._any(number),
        )
        await self.holder.store.expire(self.holder.connection, 100)
        await self.holder.connection.execute("update pgqueue.job set expires_at = null where status is null")

    async def redrive(self, number: int) -> None:
        statuses = ["failed", "cancelled", "expired", "succeeded"][: 1 + number % 4]
        if await self.db.fetchval(
            "select requeued from pgqueue.requeue(array[$1::uuid], $2, null, null)",
            self._any(number),
            statuses,
        ):
            SEEN_TO.discard(self._any(number))

    async def edit(self, number: int) -> None:
        gates = [LINES[number % len(LINES)], *[TENANT] * (number % 3 == 0)]
        with suppress(asyncpg.RestrictViolationError, asyncpg.ObjectNotInPrerequisiteStateError):
            await self.db.execute(
                "select pgqueue.edit($1, arguments => '{}', gates => $2)",
                self._any(number // 3),
                json.dumps(gates if number % 7 else [TENANT]),
            )

    async def redrive_into_another_line(self, number: int) -> None:
        with suppress(asyncpg.RestrictViolationError, asyncpg.ObjectNotInPrerequisiteStateError):
            await self.db.execute(
                "select pgqueue.redrive_through($1, arguments => '{}', gates => $2)",
                self._any(number // 3),
                json.dumps([LINES[number % len(LINES)]]),
            )
            SEEN_TO.discard(self._any(number // 3))

    async def discard(self, number: int) -> None:
        with suppress(asyncpg.PostgresError):
            await self.db.execute("select pgqueue.discard($1)", self._any(number))
            await self.see_to()

    async def resume_key(self, number: int) -> None:
        await self.db.execute("select pgqueue.resume_key($1, $2)", *LINES[number % len(LINES)])
        await self.see_to()

    async def see_to(self) -> None:
        rows = await self.db.fetch(
            "select id from pgqueue.job where status in ('failed', 'expired') "
            "and not exists (select from pgqueue.stopped where job_id = job.id)"
        )
        SEEN_TO.update(row["id"] for row in rows)

    async def move_by_hand(self, number: int) -> None:
        after = ("pending", "scheduled", "blocked")[number % 3]
        with suppress(asyncpg.PostgresError):
            await self.db.execute(
                "select pgqueue.transition($1, $2::text::pgqueue.job_status, $3)",
                self._any(number // 3),
                after,
                self.holder.lease_id,
            )

    async def reprioritise(self, number: int) -> None:
        with suppress(asyncpg.PostgresError):
            await self.db.execute("select pgqueue.reprioritise($1, $2)", self._any(number), 5 * (number % 2))

    async def pause(self, number: int) -> None:
        await self.db.execute("select pgqueue.set_paused('queue', 'default', $1)", number % 5 == 0)

    async def attend(self, number: int) -> None:
        await self.holder.store.attend(self.holder.connection, None, 1 + number % 4)

    async def sweep(self, number: int) -> None:
        await self.db.execute("select pgqueue.sweep_gates($1, $2)", UUID(int=0), 1 + number)

    async def check(self, before: dict[tuple[str, str], Line]) -> dict[tuple[str, str], Line]:
        """See that no line was overtaken since *before*; return them as they are now."""
        now = await lines(self.db)
        for name, line in now.items():
            was = before.get(name, Line())
            assert line.live <= 1
            if line.head is not None and line.head != was.head:
                assert not line.stops(line.head_turn), "past what stops it"
                assert line.head_turn <= min(line.waiting, default=line.head_turn), "overtaken"
            if was.head is not None and was.has_started and line.head != was.head:
                # Ended, or edited into another line.
                has_left = await self.db.fetchval(
                    "select status is not null or gates[1:2] <> $2 from pgqueue.job where id = $1",
                    was.head,
                    list(name),
                )
                assert has_left, "it has been passed"
        return now

    async def check_that_nothing_hangs(self) -> None:
        """See that each line in which jobs wait has a head, or is stopped before them."""
        await self.db.execute("select pgqueue.set_paused('queue', 'default', false)")
        await self.db.execute("select pgqueue.sweep_gates($1, 100)", UUID(int=0))
        await attend(self.holder)
        for line in (await lines(self.db)).values():
            assert not line.waiting or line.head is not None or line.stops(min(line.waiting))
        assert await self.db.fetchval("select count(*) from pgqueue.note") == 0

    async def drain(self) -> None:
        """Have all jobs end, those of a line in order."""
        connection = self.holder.connection
        for name in LINES:
            await self.db.execute("select pgqueue.resume_key($1, $2)", *name)
        await self.see_to()
        ended: dict[tuple[str, str], list[int]] = defaultdict(list)
        for _ in range(200):
            await self.holder.store.wake(connection, 10)
            await connection.execute("update pgqueue.scheduled set scheduled_at = now()")
            await self.holder.store.promote(connection, 100)
            for row in await self.db.fetch("select job_id, waits from pgqueue.blocked where gate is null"):
                if row["waits"] is None:
                    await self.db.execute("select pgqueue.transition($1, 'pending')", row["job_id"])
                else:
                    await self.db.execute("select pgqueue.signal($1, 'called')", row["job_id"])
            await attend(self.holder)
            await self.holder.claim()
            await connection.execute("update pgqueue.running set started_at = now() where started_at is null")
            rows = await self.db.fetch(
                "select job.id, job.gates, job.turn from pgqueue.running join pgqueue.job on job.id = job_id"
            )
            for row in rows:
                ended[row["gates"][0], row["gates"][1]].append(row["turn"])
            await self.holder.store.finish(
                connection, self.holder.lease_id, "ghost", [row["id"] for row in rows], None
            )
            if not await self.db.fetchval("select count(*) from pgqueue.job where status is null"):
                break
        await attend(self.holder)
        for turns in ended.values():
            # The first may have been running before.
            assert turns[1:] == sorted(turns[1:])
        for table in ("gate_pass", "note", "blocked", "ready", "running", "scheduled", "stopped"):
            assert await self.db.fetchval(f"select count(*) from pgqueue.{table}") == 0, table


MOVES = [
    "make", "make", "make", "make", "make", "make_for_later", "come_due", "make_some_and_roll_back", "claim",
    "claim", "prefetch", "finish", "finish", "finish_and_roll_back", "fail", "fail", "retry", "retry",
    "release", "suspend", "signal", "rescue", "cancel", "expire", "redrive", "redrive", "discard",
    "resume_key", "move_by_hand", "reprioritise", "pause", "attend", "attend", "attend", "sweep", "edit",
    "edit", "redrive_into_another_line",
]  # fmt: skip


@settings(
    # Not made smaller: what is found is found again with the same moves.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    max_examples=int(os.environ.get("PGQUEUE_ORDER_EXAMPLES", "20")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(moves=st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 40)), min_size=20, max_size=60))
@pytest.mark.contract("P5.10", "P8.4")
async def test_the_order_of_a_line_holds_and_nothing_hangs_whatever_happens_to_its_jobs(
    db: Connection, holder: Ghost, moves: list[tuple[str, int]]
) -> None:
    world = World(db, holder)
    await world.begin()
    seen: dict[tuple[str, str], Line] = {}
    for verb, number in [("make", 0), *moves]:
        await getattr(world, verb)(number)
        seen = await world.check(seen)
    await world.check_that_nothing_hangs()
    await world.check(seen)
    await world.drain()


# Many at once

SECONDS = float(os.environ.get("PGQUEUE_ORDER_SECONDS", "3"))
KEYS = 6


class Crowd:
    """Workers, producers and those that attend, each on a connection of its own, with faults."""

    def __init__(self, pgq: PgQueue, dice: random.Random) -> None:
        self.pgq = pgq
        self.dice = dice
        self.stopped = asyncio.Event()
        self.enqueued: dict[int, list[UUID]] = defaultdict(list)
        """By key, in the order in which they were enqueued: of no two calls at once."""
        self.started: dict[int, list[UUID]] = defaultdict(list)
        """By key, each job at its first start."""
        self.running: dict[int, UUID] = {}
        self.key_of: dict[UUID, int] = {}

    async def produce(self, keys: range) -> None:
        connection = await inside.database(self.pgq).connect(durable=False)
        while not self.stopped.is_set():
            key = self.dice.choice(keys)
            transaction = connection.transaction()
            await transaction.start()
            gates = [("order/skip", str(key)), *[TENANT] * self.dice.randint(0, 1)]
            made = [
                await make(connection, *gates, priority=5 * self.dice.randint(0, 1))
                for _ in range(self.dice.randint(1, 4))
            ]
            await asyncio.sleep(self.dice.random() * 0.01)
            if self.dice.random() < 0.2:
                await transaction.rollback()
            else:
                self.key_of.update(dict.fromkeys(made, key))
                await transaction.commit()
                self.enqueued[key] += made
            await asyncio.sleep(0.005)
        await connection.close()

    async def work(self) -> None:
        async with ghost(self.pgq) as holder:
            attender = await inside.database(self.pgq).connect(durable=False)
            while not self.stopped.is_set():
                jobs = await holder.claim(self.dice.randint(1, 4))
                for job in jobs:
                    key = self.key_of[job.id]
                    assert self.running.setdefault(key, job.id) == job.id, "two of a key at once"
                    if job.id not in self.started[key]:
                        self.started[key].append(job.id)
                await asyncio.sleep(0.002 + self.dice.random() * 0.004)
                if jobs:
                    await self._end(holder, attender, [job.id for job in jobs])
            await attender.close()
            async with holder.connection.transaction():
                await holder.die()
                await holder.store.lock_expired_lease(holder.connection, holder.lease_id)
                await holder.store.rescue(holder.connection, holder.lease_id, 100, 9)

    async def _end(self, holder: Ghost, attender: Connection, ids: list[UUID]) -> None:
        connection, lease, name = holder.connection, holder.lease_id, holder.name
        chance = self.dice.random()
        for job_id in ids:
            del self.running[self.key_of[job_id]]
        if chance < 0.15:
            await holder.store.release(connection, lease, name, ids)
        elif chance < 0.35:
            retries = [Retried(each, self.dice.choice((0.0, 0.02)), "exception", ERROR) for each in ids]
            await holder.store.retry(connection, lease, name, retries)
        elif chance < 0.5:
            ends = [Ended(each, JobStatus.FAILED, "exception", ERROR) for each in ids]
            await holder.store.fail(connection, lease, name, ends)
        else:
            await holder.store.finish(connection, lease, name, ids, None)
        transaction = attender.transaction()
        await transaction.start()
        await holder.store.attend(attender, None, self.dice.randint(1, 20))
        if self.dice.random() < 0.1:
            await transaction.rollback()
        else:
            await transaction.commit()

    async def keep_up(self) -> None:
        async with ghost(self.pgq) as holder:
            while not self.stopped.is_set():
                await holder.store.promote(holder.connection, 100)
                await attend(holder)
                await holder.connection.execute("select pgqueue.sweep_gates($1, 100)", UUID(int=0))
                await asyncio.sleep(0.02)


@pytest.mark.contract("P5.10")
async def test_jobs_start_in_the_order_of_their_enqueueing_while_many_enqueue_end_and_attend_at_once(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    world = World(db, holder)
    await world.begin()
    crowd = Crowd(pgq, random.Random(13))
    tasks = [
        asyncio.create_task(each)
        for each in (
            *[crowd.produce(range(producer, KEYS, 2)) for producer in range(2)],
            *[crowd.work() for _ in range(3)],
            *[crowd.keep_up() for _ in range(2)],
        )
    ]

    await asyncio.wait(tasks, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
    crowd.stopped.set()
    await asyncio.gather(*tasks)

    assert sum(map(len, crowd.started.values())) > 20
    for key, started in crowd.started.items():
        assert started == crowd.enqueued[key][: len(started)]
    await world.see_to()
    await world.check_that_nothing_hangs()
    await world.drain()
