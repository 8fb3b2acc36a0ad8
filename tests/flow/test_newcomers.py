"""A job that comes alone to a limit or a group has statements of its own, with the same outcome."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from kit import inside
from kit.faults import Ghost, ghost

from pgqueue import PgQueue
from pgqueue.model.ids import new_ids
from pgqueue.store.values import NewJobs, Template

if TYPE_CHECKING:
    from conftest import Connection

RULES = """
select pgqueue.declare_limit('few', 2, 'wait'), pgqueue.declare_limit('one', 1, 'wait'),
       pgqueue.declare_limit('dropping', 1, 'drop'), pgqueue.declare_limit('replacing', 1, 'replace'),
       pgqueue.declare_limit('rated', null, 'wait', 2.0, 2),
       pgqueue.declare_ordered('order/group', 'block')
"""
WAYS: tuple[list[tuple[str, str]], ...] = (
    [("few", "a")],
    [("few", "a")],
    [("one", "a")],
    [("one", "b")],
    [("dropping", "")],
    [("replacing", "")],
    [("rated", "")],
    [("order/group", "a")],
    [("order/group", "a")],
    [("order/group", "b"), ("few", "a")],
    [("one", "a"), ("few", "a")],
    [("undeclared", "a")],
)
"""Limits that jobs have."""
STEPS = 80

STANDS = {
    "blocked": "select job_id, lane, position, attempt, losses, gate, turn, single from pgqueue.blocked",
    "ready": "select job_id, lane, attempt, losses from pgqueue.ready",
    "running": "select job_id from pgqueue.running",
    "ended": "select id, status, reason from pgqueue.job where status is not null",
    "gates": "select id, rule, key from pgqueue.gate",
    "passes": "select gate, job_id, kept from pgqueue.gate_pass",
    "states": "select gate, number, in_use, let, lanes, lows, look is null from pgqueue.gate_state",
    "notes": "select node_id, kind, released, lane, low, closed_until is null, wanted from pgqueue.note",
}
"""What attending changes, but for times, positions and numbers of notes."""


async def stands(db: Connection) -> dict[str, Counter[tuple[Any, ...]]]:
    found = {}
    for name, query in STANDS.items():
        rows = await db.fetch(query)
        found[name] = Counter(
            tuple(tuple(value) if isinstance(value, list) else value for value in row.values())
            for row in rows
        )
    return found


async def enqueue(db: Connection, gates: list[tuple[str, str]], priority: int = 0) -> int:
    """Enqueue a job, and return the note that tells of it."""
    async with db.transaction():
        job_id: UUID = await db.fetchval("select pgqueue.enqueue('work', priority => $1)", priority)
        [note] = await db.fetchval(
            "select pgqueue.limit_jobs(array[$1::uuid], $2::json)", job_id, json.dumps([gates])
        )
    return int(note)


@asynccontextmanager
async def undone(db: Connection) -> AsyncIterator[None]:
    """Run the block in a transaction that leaves nothing."""
    transaction = db.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


class World:
    """Jobs with limits that come, end and are attended to, one note at a time and each in both ways."""

    def __init__(self, db: Connection, holder: Ghost, seed: int) -> None:
        self._db = db
        self._holder = holder
        self._random = random.Random(seed)
        self._is_paused = False
        self.went: Counter[str] = Counter()
        """How notes were attended to: what became of a newcomer, or `usual`."""

    async def make(self) -> None:
        """Enqueue a job; attend to it, or leave that for later."""
        note = await enqueue(self._db, self._random.choice(WAYS), self._random.choice((0, 0, 0, 5)))
        if self._random.random() < 0.7:
            await self.attend_to(note)

    async def end(self) -> None:
        """End a job that runs, or have it come again; claim first."""
        await self._holder.claim(2)
        running = await self._db.fetch("select job_id from pgqueue.running order by job_id")
        if running:
            job_id = self._random.choice(running)["job_id"]
            after = self._random.choice(("succeeded", "succeeded", "succeeded", "failed", "pending"))
            await self._db.execute(
                "select pgqueue.transition($1, $2::text::pgqueue.job_status, $3)",
                job_id,
                after,
                self._holder.lease_id,
            )

    async def cancel(self) -> None:
        """Cancel a job that waits."""
        waiting = await self._db.fetch("select job_id from pgqueue.blocked order by job_id")
        if waiting:
            await self._db.fetchval("select pgqueue.cancel($1)", self._random.choice(waiting)["job_id"])

    async def pause(self) -> None:
        """Pause the queue, or have it go on."""
        self._is_paused = not self._is_paused
        await self._db.execute("select pgqueue.set_paused('queue', 'default', $1)", self._is_paused)

    async def change(self) -> None:
        """Change a limit."""
        await self._db.execute("select pgqueue.set_limit('few', $1)", self._random.randint(1, 3))

    async def attend(self) -> None:
        """Attend to one note."""
        notes = await self._db.fetch("select id from pgqueue.note order by id")
        if notes:
            await self.attend_to(self._random.choice(notes)["id"])

    async def attend_to(self, note: int) -> None:
        """Attend to *note*; see that it comes to the same as in the usual way."""
        before = await stands(self._db)
        async with undone(self._db):
            # Two notes, of which there is one: newcomers are seen to singly.
            [answer] = await self._db.fetch("select * from pgqueue.attend($1, 10)", [note, 0])
            usual = (await stands(self._db), answer["taken"], set(answer["lanes"]), answer["cancelled"])
        async with undone(self._db):
            is_served = await self._db.fetchval("select is_served from pgqueue.attend_newcomer($1)", note)
            after = await stands(self._db)
        [answer] = await self._db.fetch("select * from pgqueue.attend($1, 10)", [note])
        if is_served:
            passed = bool(after["passes"] - before["passes"])
            changed = after["states"] != before["states"]
            self.went["passed" if passed else "waits first" if changed else "waits"] += 1
            stand = await stands(self._db)
            assert stand == after
            assert (stand, answer["taken"], set(answer["lanes"]), answer["cancelled"]) == usual
        else:
            self.went["usual"] += 1
            assert after == before

    async def step(self) -> None:
        """Do one thing."""
        await self._random.choices(
            (self.make, self.attend, self.end, self.cancel, self.pause, self.change), (12, 6, 6, 1, 1, 1)
        )[0]()


@pytest.mark.contract("P3.13", "P5.10")
@pytest.mark.parametrize("seed", range(4))
async def test_what_comes_alone_to_a_limit_or_a_group_fares_as_it_would_among_others(
    pgq: PgQueue, db: Connection, seed: int
) -> None:
    await db.execute(RULES)
    async with ghost(pgq) as holder:
        world = World(db, holder, seed)
        for _ in range(STEPS):
            await world.step()
    assert world.went["passed"] > 0


@pytest.mark.contract("P3.13", "P5.10")
async def test_a_newcomer_passes_or_waits_as_the_first_one_or_behind_others(
    pgq: PgQueue, db: Connection
) -> None:
    await db.execute(RULES)
    for name in ("few", "order/group"):
        async with ghost(pgq) as holder:
            world = World(db, holder, 0)
            for _ in range(4):
                await world.attend_to(await enqueue(db, [(name, "key")]))
        expected = {"passed": 2, "waits first": 1, "waits": 1} if name == "few" else {"passed": 1, "waits": 3}
        assert world.went == expected


@pytest.mark.contract("P5.10")
async def test_a_newcomer_of_a_group_does_not_pass_the_failed_job_that_stops_it(
    pgq: PgQueue, db: Connection
) -> None:
    await db.execute(RULES)
    async with ghost(pgq) as holder:
        world = World(db, holder, 0)
        await world.attend_to(await enqueue(db, [("order/group", "a")]))
        [head] = await holder.claim()
        await db.execute("select pgqueue.transition($1, 'failed', $2)", head.id, holder.lease_id)
        while notes := await db.fetch("select id from pgqueue.note"):
            await world.attend_to(notes[0]["id"])
        await world.attend_to(await enqueue(db, [("order/group", "a")]))
    assert await db.fetchval("select count(*) from pgqueue.stopped") == 1
    assert await db.fetchval("select count(*) from pgqueue.blocked where gate is not null") == 1


NOTED = """
select note.kind = 'gate' and note.released is null and note.node_id = blocked.gate
       and note.lane = blocked.lane and note.low <= blocked.turn
from pgqueue.note cross join pgqueue.blocked
where note.id = $1 and blocked.job_id = $2
"""
WRITTEN = """
select (
           select to_jsonb(each) - array['id', 'created_at', 'turn', 'expires_at'] from (select job.*) as each
       )::text as job,
       (job.turn is null, job.expires_at - job.created_at)::text as times,
       (select (lane, attempt, losses, gated, gate, single, turn = coalesce(job.turn, turn))::text
        from pgqueue.blocked where job_id = job.id) as stands
from pgqueue.job
where id = $1
"""


@pytest.mark.contract("P3.13", "P5.10")
@pytest.mark.parametrize(
    "gates",
    [[("one", "a")], [("one", 'a "b"'), ("two", "")], [("order/g", "a")], [("order/g", "a"), ("one", "")]],
)
async def test_a_job_with_limits_that_is_written_alone_is_like_one_of_many(
    pgq: PgQueue, db: Connection, gates: list[tuple[str, str]]
) -> None:
    lane = ("default", 3)
    template = Template(
        lane,
        "work",
        expires_after=60.0,
        options='{"timeout": 5}',
        headers='{"trace": "x"}',
        tags='["a", "b"]',
        key="k",
    )
    async with ghost(pgq) as holder:
        await holder.store.learn_lanes(holder.connection, [lane])

        async def write(count: int) -> UUID:
            jobs = NewJobs()
            for job_id in (ids := new_ids(count)):
                jobs.add(job_id, '{"key": 1}', template)
            given = holder.store.limited_jobs(jobs, {job_id: tuple(gates) for job_id in ids})
            assert (given.sql == inside.statement(holder.store, "enqueue_one_limited")) == (count == 1)
            [note] = await holder.store.enqueue_limited(holder.connection, given)
            assert await db.fetchval(NOTED, note, ids[0])
            return ids[-1]

        alone, among = await write(1), await write(2)
    assert await db.fetchrow(WRITTEN, alone) == await db.fetchrow(WRITTEN, among)
