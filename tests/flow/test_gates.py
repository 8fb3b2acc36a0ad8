"""Jobs that wait until a limit lets them through: never more than it allows, never fewer than it could."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kit import inside
from kit.faults import Ghost, ghost
from kit.waiting import eventually, holds

from pgqueue import ConfigurationError, InvalidOptionError, JobContext, Limit, PgQueue, chain, group
from pgqueue.cli.commands.jobs import describe_state
from pgqueue.enqueueing import writer
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Retried, Suspended
from pgqueue.store import Settled

if TYPE_CHECKING:
    from conftest import Connection


ERROR = JobError("ValueError", "no")


@pytest.fixture
async def holder(pgq: PgQueue, db: Connection) -> AsyncIterator[Ghost]:
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    async with ghost(pgq) as holder:
        yield holder


async def make(db: Connection, *gates: tuple[str, str]) -> UUID:
    """Enqueue one job that passes *gates*."""
    async with db.transaction():
        job_id = UUID(str(await db.fetchval("select pgqueue.enqueue('work')")))
        await db.execute("select pgqueue.limit_jobs(array[$1::uuid], $2::json)", job_id, json.dumps([gates]))
    return job_id


async def attend(holder: Ghost) -> None:
    """Attend to all that was noted."""
    while (await holder.store.attend(holder.connection, None, 1000)).taken:
        pass


async def places(db: Connection, ids: list[UUID]) -> list[str]:
    return [str(await db.fetchval("select pgqueue.status_of($1)::text", job_id)) for job_id in ids]


@pytest.mark.contract("P3.13")
async def test_a_limit_lets_as_many_through_as_it_has_slots_and_the_next_as_one_ends(
    db: Connection, holder: Ghost
) -> None:
    await db.execute("select pgqueue.declare_limit('tenant', 2, 'wait')")
    ids = [await make(db, ("tenant", "a")) for _ in range(4)]
    other = await make(db, ("tenant", "b"))
    await attend(holder)

    assert await places(db, [*ids, other]) == ["pending", "pending", "blocked", "blocked", "pending"]
    assert len(await holder.claim()) == 3
    await holder.store.finish(holder.connection, holder.lease_id, "ghost", ids[:1], None, None)
    await attend(holder)
    assert await places(db, ids) == ["succeeded", "running", "pending", "blocked"]


@pytest.mark.contract("P3.13")
async def test_a_job_says_which_limit_it_waits_for(pgq: PgQueue, holder: Ghost) -> None:
    one, two = pgq.limit("one", slots=1), pgq.limit("two", slots=1)

    @pgq.task(limits=[one.by("key"), two])
    async def work(key: str) -> None: ...

    jobs = [await work.enqueue(key) for key in ("a", "b", "b")]

    assert [(await job.refresh()).waits_for_limit for job in jobs] == [None, "two", "one"]
    [shown] = describe_state(await jobs[1].refresh()).splitlines()
    assert shown == "waits for limit two"
    used = [(each.name, each.slots, each.in_use, each.waiting) for each in await pgq.limits()]
    assert used == [("one", 1, 2, 1), ("two", 1, 1, 1)]
    assert (await jobs[2].cancel()) is not None
    assert (await jobs[2].refresh()).waits_for_limit is None


@pytest.mark.contract("P3.13")
def test_what_no_key_can_come_from_is_refused_where_the_limit_is_declared(pgq: PgQueue) -> None:
    class Later:
        async def __call__(self, **_: object) -> str:
            return "a"

    async def later(**_: object) -> str:
        return "a"

    for key in (later, partial(later), Later(), "", None, 5, b"key"):
        with pytest.raises(ConfigurationError, match="a function of the arguments that is not async, got"):
            pgq.limit("one", slots=1).by(key)  # type: ignore[arg-type]


# With workflows, schedules, and operators


@pytest.fixture
def one(pgq: PgQueue) -> Limit:
    return pgq.limit("one", slots=1)


async def waits_for_gate(db: Connection) -> int:
    return int(await db.fetchval("select count(*) from pgqueue.blocked where gate is not null"))


@pytest.mark.contract("P3.13")
async def test_members_of_a_paused_workflow_are_not_let_through_hold_nothing_and_come_again(
    pgq: PgQueue, db: Connection, holder: Ghost, one: Limit
) -> None:
    two = pgq.limit("two", slots=1)

    @pgq.task(limits=[two, one])
    async def work(_: object = None) -> None: ...

    @pgq.task(limits=[two])
    async def other() -> None: ...

    first = await work.enqueue()
    workflow = await pgq.enqueue_workflow(group(chain(work.si(), work.si()), work.si()))
    behind = await work.enqueue()
    await pgq.pause_workflow(workflow.workflow_id)
    [job] = await holder.claim(5)
    assert job.id == first.id
    await holder.store.finish(holder.connection, holder.lease_id, "ghost", [job.id], None, None)
    await attend(holder)

    assert await places(db, [behind.id]) == ["pending"]
    assert await db.fetchval("select count(*) from pgqueue.gate_pass where job_id <> $1", behind.id) == 0
    await pgq.resume_workflow(workflow.workflow_id)
    async with pgq.worker():
        await behind.result(timeout=60)
        await workflow.result(timeout=60)
    assert await db.fetchval("select count(*) from pgqueue.gate_pass") == 0


@pytest.mark.contract("P3.13")
async def test_a_member_that_waits_in_a_paused_workflow_gives_back_what_it_holds(
    pgq: PgQueue, db: Connection, holder: Ghost, one: Limit
) -> None:
    @pgq.task(limits=[one])
    async def work() -> None: ...

    @pgq.task
    async def other() -> None: ...

    workflow = await pgq.enqueue_workflow(chain(work.si(), other.si()))
    await attend(holder)
    [job] = await holder.claim()
    await pgq.pause_workflow(workflow.workflow_id)
    await pgq.signal(job.id, "called")
    await holder.store.suspend(holder.connection, holder.lease_id, [Suspended(job.id, None, None, "called")])
    next_one = await work.enqueue()
    await attend(holder)

    assert await places(db, [job.id, next_one.id]) == ["blocked", "pending"]
    await holder.store.wake(holder.connection, 10)
    await attend(holder)
    assert await places(db, [job.id, next_one.id]) == ["blocked", "pending"]
    await pgq.resume_workflow(workflow.workflow_id)
    assert await waits_for_gate(db) == 1
    async with pgq.worker():
        await next_one.result(timeout=60)
        await workflow.result(timeout=60)


@pytest.mark.contract("P3.13")
async def test_what_jobs_add_and_start_and_what_schedules_make_keeps_to_limits(
    pgq: PgQueue, db: Connection, one: Limit
) -> None:
    running, most = 0, 0

    async def all_have_ended() -> bool:
        return not await db.fetchval("select count(*) from pgqueue.job where status is null")

    @pgq.task(limits=[one.by("key")])
    async def work(key: str = "a", at: str = "") -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    @pgq.task
    async def splits(ctx: JobContext) -> None:
        await ctx.add("more", *[work.s() for _ in range(5)])
        await ctx.start("child", chain(work.si(), work.si()))

    for overlap in ("allow", "queue", "replace"):
        await pgq.schedules.create(f"s-{overlap}", work.s(), every=3600, overlap=overlap, tick_argument="at")
        await pgq.schedules.run_now(f"s-{overlap}")
    assert await waits_for_gate(db) == 2
    workflow = await pgq.enqueue_workflow(group(splits.s(), splits.s()))
    async with pgq.worker(concurrency=10):
        await workflow.result(timeout=60)
        await eventually(all_have_ended)
    assert await db.fetchval("select count(*) from pgqueue.job where task = 'work'") == 17
    assert most == 1

    by_time = pgq.limit("by_time", slots=1)

    @pgq.task(limits=[by_time.by("at")])
    async def timed(at: str = "") -> None: ...

    @pgq.task(limits=[by_time.by(lambda at: at[:4])])
    async def derived(at: str = "") -> None: ...

    await pgq.schedules.create("timed", timed.s(), every=3600, tick_argument="at")
    await pgq.schedules.run_now("timed")
    [tick] = await pgq.schedules.history("timed")
    gates = await db.fetchval("select gates from pgqueue.job where id = $1", tick.job_id)
    assert gates == ["by_time", tick.at.isoformat()]
    with pytest.raises(InvalidOptionError, match="must not be computed from the tick's time"):
        await pgq.schedules.create("derived", derived.s(), every=3600, tick_argument="at")


WRONG_LISTS: dict[str, object] = {
    "no list": "tenant",
    "an object": {"tenant": "a"},
    "null": None,
    "no pair": ["tenant"],
    "no key": [["tenant"]],
    "three parts": [["tenant", "a", "b"]],
    "no name": [["", "a"]],
    "a null name": [[None, "a"]],
    "a null key": [["tenant", None]],
    "a long name": [["n" * 301, "a"]],
    "a long key": [["tenant", "k" * 513]],
    "too many": [[f"tenant {number}", "a"] for number in range(20)],
    "a line that is not the first": [["tenant", "a"], ["order/line", "a"]],
}


@pytest.mark.contract("P3.13")
@pytest.mark.parametrize("name", WRONG_LISTS)
async def test_sql_that_gives_jobs_a_wrong_list_of_limits_changes_nothing(db: Connection, name: str) -> None:
    ids = [await db.fetchval("select pgqueue.enqueue('work')") for _ in range(2)]

    with pytest.raises(asyncpg.InvalidParameterValueError, match=f"job {ids[1]}: "):
        await db.execute(
            "select pgqueue.limit_jobs($1::uuid[], $2::json)",
            ids,
            json.dumps([[["tenant", "a"]], WRONG_LISTS[name]]),
        )

    assert [await places(db, ids), await db.fetchval("select count(*) from pgqueue.note")] == [
        ["pending"] * 2,
        0,
    ]


@pytest.mark.contract("P3.13")
async def test_sql_gives_jobs_their_limits_as_they_are_written(db: Connection) -> None:
    lists = [
        [],
        [["tenant", "a"]],
        [["tenant", ""]],
        [["order/line", "a"], ["tenant", "b"]],
        [["n" * 300, "k" * 512]],
        [["n" * 200, "k" * 99]],
        *([[rule, key]] for rule in ("é", 'say "x"', "\\", "[[", "a, b") for key in HOSTILE_KEYS),
    ]
    ids = [await db.fetchval("select pgqueue.enqueue('work')") for _ in lists]

    await db.execute("select pgqueue.limit_jobs($1::uuid[], $2::json)", ids, json.dumps(lists))

    rows = await db.fetch("select id, gates, gate from pgqueue.job left join pgqueue.blocked on job_id = id")
    stored = {row["id"]: row for row in rows}
    assert [stored[each]["gates"] or [] for each in ids] == [
        [part for pair in each for part in pair] for each in lists
    ]
    for row in (stored[each] for each in ids[1:]):
        assert row["gate"] == await db.fetchval("select pgqueue.key_id($1, $2)", *row["gates"][:2])


HOSTILE_KEYS = (
    "", " ", "NULL", "null", '"', "\\", '\\"', "{", "}", "{}", ",", "a,b", '","', "'", "$1", "é", "雪", "😀",
    "\x01", "\n", "\u2028", "\x7f", "order/x", "a/b", "%s", "::text", 'x"y\\', "k" * 512,
)  # fmt: skip


@pytest.mark.contract("P3.13")
@pytest.mark.parametrize("count", [1, len(HOSTILE_KEYS)])
async def test_keys_of_any_text_are_stored_as_they_are_and_wait_at_the_gate_that_the_database_names(
    pgq: PgQueue, db: Connection, count: int
) -> None:
    @pgq.task(limits=[pgq.limit('"\\{}, é', slots=1).by("key")])
    async def limited(key: str) -> None: ...

    @pgq.task(ordered_by="key")
    async def ordered(key: str) -> None: ...

    keys = HOSTILE_KEYS[-count:]
    for work, rule in ((limited, '"\\{}, é'), (ordered, "order/ordered")):
        # Of two with one key, the second one waits.
        await pgq.enqueue_many(work.s(key) for key in (*keys, *keys))

        waiting = await db.fetch(
            "select job.gates, blocked.gate = pgqueue.key_id(job.gates[1], job.gates[2]) as is_its "
            "from pgqueue.job join pgqueue.blocked on blocked.job_id = job.id where job.task = $1 "
            "order by job.id",
            work.name,
        )
        assert [tuple(row["gates"]) for row in waiting] == [(rule, key) for key in keys]
        assert all(row["is_its"] for row in waiting)


@pytest.mark.contract("P3.13")
async def test_workers_are_told_of_limited_jobs_that_a_callers_transaction_commits(
    pgq: PgQueue, db: Connection, one: Limit
) -> None:
    @pgq.task(limits=[one])
    async def work() -> None: ...

    heard: list[object] = []
    listener = await inside.database(pgq).connect(durable=False)
    await listener.add_listener("pgqueue", lambda *said: heard.append(said[-1]))
    for call in (
        pgq.enqueue(work.s(), connection=db),
        pgq.enqueue_workflow(chain(work.si(), work.si()), connection=db),
    ):
        heard.clear()
        async with db.transaction():
            await call
        while "attend" not in heard:
            await listener.execute("select")
    await listener.close()


@pytest.mark.contract("P3.13")
async def test_workers_are_told_of_the_keys_that_a_call_does_not_attend_to_itself(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ATTENDED", 5)

    @pgq.task(limits=[pgq.limit("each", slots=1).by("key")])
    async def work(key: int) -> None: ...

    heard: list[object] = []
    listener = await inside.database(pgq).connect(durable=False)
    await listener.add_listener("pgqueue", lambda *said: heard.append(said[-1]))

    await pgq.enqueue_many(map(work.s, range(12)))

    assert await db.fetchval("select count(*) from pgqueue.ready") == 5
    await eventually(lambda: holds("attend" in heard))
    await listener.close()


@pytest.mark.contract("P3.13")
async def test_slots_that_are_set_before_code_declares_the_limit_stay_and_the_rest_is_as_declared(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    await pgq.set_limit("once", slots=2)
    limit = pgq.limit("once", slots=1, when_full="drop")

    @pgq.task(limits=[limit])
    async def work() -> None: ...

    handles = [await work.enqueue() for _ in range(3)]
    assert await places(db, [each.id for each in handles]) == ["pending", "pending", "cancelled"]


@pytest.mark.contract("P3.13")
async def test_jobs_of_a_paused_queue_do_not_keep_others_from_being_let_through(
    pgq: PgQueue, db: Connection, holder: Ghost, one: Limit
) -> None:
    @pgq.task(limits=[one])
    async def work() -> None: ...

    await pgq.pause(queue="paused")
    paused = [await work.options(queue="paused").enqueue() for _ in range(3)]
    first = await work.enqueue()
    second = await work.options(queue="second", priority=2).enqueue()

    assert await places(db, [*(each.id for each in paused), first.id, second.id]) == [
        *["blocked"] * 3, "pending", "blocked"
    ]  # fmt: skip
    await first.cancel()
    await attend(holder)
    assert await places(db, [second.id]) == ["pending"]
    await second.cancel()
    await pgq.resume(queue="paused")
    await db.execute("select pgqueue.sweep_gates($1, 100)", UUID(int=0))
    await attend(holder)
    assert await places(db, [each.id for each in paused]) == ["pending", "blocked", "blocked"]


# Whatever happens to jobs in whatever order

GATES = (
    (("tenant", "a"),),
    (("tenant", "b"), ("queue/default", "")),
    (("tenant", "a"), ("queue/default", "")),
    (("once", "x"),),
    (("newest", "x"), ("tenant", "b")),
    (),
)
RULES = {
    "tenant": (2, "wait"), "queue/default": (3, "wait"), "once": (1, "drop"), "newest": (1, "replace"),
    "queue/narrow": (1, "wait"),
}  # fmt: skip
QUEUES = ("default", "narrow", "wide")
TABLES = (
    "job, ready, running, scheduled, blocked, gate, gate_state, gate_pass, note, attempt, dead_letter, "
    "action, cancel_request, event, setting"
)


class World:
    """Jobs with limits, a worker that claims them, and what is done to them."""

    def __init__(self, db: Connection, holder: Ghost) -> None:
        self.db = db
        self.holder = holder
        self.jobs: list[UUID] = []
        self.allowed = {rule: slots for rule, (slots, _) in RULES.items()}

    async def begin(self) -> None:
        connection = self.holder.connection
        await connection.execute(f"truncate {', '.join('pgqueue.' + each for each in TABLES.split(', '))}")
        await connection.execute("update pgqueue.lane set paused = false where paused")
        await connection.execute("delete from pgqueue.limit_rule")
        await self._renew()
        for rule, (slots, when_full) in RULES.items():
            await self.db.execute("select pgqueue.declare_limit($1, $2, $3)", rule, slots, when_full)

    async def _renew(self) -> None:
        await self.holder.connection.execute(
            "update pgqueue.lease set expires_at = now() + interval '1 hour', beside = null"
        )

    async def _running(self) -> list[UUID]:
        return [row[0] for row in await self.db.fetch("select job_id from pgqueue.running order by job_id")]

    async def _one(self, number: int) -> list[UUID]:
        running = await self._running()
        return [running[number % len(running)]] if running else []

    def _any(self, number: int) -> UUID:
        return self.jobs[number % len(self.jobs)]

    async def make(self, number: int) -> None:
        self.jobs.append(await make(self.db, *GATES[number % len(GATES)]))

    async def make_some_and_roll_back(self, number: int) -> None:
        transaction = self.db.transaction()
        await transaction.start()
        await make(self.db, *GATES[number % len(GATES)])
        await transaction.rollback()

    async def claim(self, number: int) -> None:
        await self.holder.claim(1 + number % 3)

    async def prefetch(self, number: int) -> None:
        await self.holder.prefetch(1 + number % 3)

    async def finish(self, number: int) -> None:
        holder = self.holder
        ids = await self._one(number)
        await holder.store.finish(holder.connection, holder.lease_id, holder.name, ids, None)

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
        retries = [Retried(each, 0.0, "exception", ERROR) for each in await self._one(number)]
        await holder.store.retry(holder.connection, holder.lease_id, holder.name, retries)

    async def promote(self, number: int) -> None:
        await self.holder.store.promote(self.holder.connection, 1 + number % 3)

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

    async def wake(self, number: int) -> None:
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

    async def redrive(self, number: int) -> None:
        await self.db.execute(
            "select requeued from pgqueue.requeue("
            "  array[$1::uuid], '{failed,cancelled,succeeded}', null, null)",
            self._any(number),
        )

    async def redrive_elsewhere(self, number: int) -> None:
        with suppress(asyncpg.RestrictViolationError):
            await self.db.execute("select pgqueue.redrive($1, $2)", self._any(number), QUEUES[number % 3])

    async def redrive_with_other_keys(self, number: int) -> None:
        gates = json.dumps(GATES[number % len(GATES)])
        with suppress(asyncpg.RestrictViolationError):
            await self.db.execute(
                "select pgqueue.redrive_through($1, arguments => '{}', gates => $2)",
                self._any(number // 3),
                gates,
            )

    async def edit_the_queue(self, number: int) -> None:
        with suppress(asyncpg.RestrictViolationError):
            await self.db.execute("select pgqueue.edit($1, $2)", self._any(number // 3), QUEUES[number % 3])

    async def edit_the_keys(self, number: int) -> None:
        queue, gates = [*QUEUES, None][number % 4], json.dumps(GATES[number % len(GATES)])
        with suppress(asyncpg.RestrictViolationError):
            await self.db.execute(
                "select pgqueue.edit($1, $2, arguments => '{}', gates => $3)",
                self._any(number // 3),
                queue,
                gates,
            )

    async def move_by_hand(self, number: int) -> None:
        after = ("pending", "scheduled", "blocked")[number % 3]
        with suppress(asyncpg.PostgresError):
            await self.db.execute(
                "select pgqueue.transition($1, $2::text::pgqueue.job_status, $3)",
                self._any(number // 3),
                after,
                self.holder.lease_id,
            )

    async def pause(self, number: int) -> None:
        await self.db.execute("select pgqueue.set_paused('queue', 'default', $1)", number % 3 == 0)

    async def set_limit(self, number: int) -> None:
        rule = list(RULES)[number % len(RULES)]
        await self.db.execute("select pgqueue.set_limit($1, $2)", rule, 1 + number % 4)
        self.allowed[rule] = 1 + number % 4

    async def attend(self, number: int) -> None:
        await self.holder.store.attend(self.holder.connection, None, 1 + number % 4)

    async def sweep(self, number: int) -> None:
        await self.db.execute("select pgqueue.sweep_gates($1, 100)", UUID(int=0))

    async def check(self, held_before: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        """Return what jobs hold of each gate, once it is seen to be what they may."""
        held: Counter[tuple[str, str]] = Counter()
        for row in await self.db.fetch(
            "select job.id, job.gates, stands.gate, "
            "  (select lane.queue from pgqueue.lane where lane.id = job.lane) as queue, "
            "  array(select gate_pass.gate from pgqueue.gate_pass where job_id = job.id) as passes, "
            "  case when exists (select from pgqueue.ready where job_id = job.id) "
            "         or exists (select from pgqueue.running where job_id = job.id) then 'through' "
            "       when stands.gate is not null then 'waits' else 'away' end as place "
            "from pgqueue.job left join pgqueue.blocked as stands on stands.job_id = job.id"
        ):
            gates = [] if row["gates"] is None else pairs(row["gates"])
            ids = [key_id(*gate) for gate in gates]
            passes = set(row["passes"])
            if row["place"] == "through":
                assert passes == set(ids)
            elif row["place"] == "away":
                assert passes == set()
            else:
                assert row["gate"] not in passes
                assert row["gate"] in ids
            held.update(gate for gate, gate_id in zip(gates, ids, strict=True) if gate_id in passes)
            # No door into the narrow queue leaves its limit out, and none takes that of another one along.
            of_queue = {gate[0] for gate in gates if gate[0].startswith("queue/")}
            assert of_queue <= {f"queue/{row['queue']}"}
            assert of_queue or row["queue"] != "narrow"
        wrong = await self.db.fetch(
            "select * from (select distinct on (gate) gate, in_use from pgqueue.gate_state "
            "  order by gate, number desc) as newest "
            "where in_use <> (select count(*) from pgqueue.gate_pass where gate_pass.gate = newest.gate) "
            "  + coalesce((select sum(released) from pgqueue.note where node_id = newest.gate), 0)"
        )
        assert not wrong
        for gate, count in held.items():
            assert count <= max(self.allowed[gate[0]], held_before.get(gate, 0)), gate
        return dict(held)

    async def check_that_nothing_hangs(self, *, after_a_sweep: bool = True) -> None:
        """See that what waits behind a gate waits for a full one, once nothing is left to be attended to."""
        await self.db.execute("select pgqueue.set_paused('queue', 'default', false)")
        if after_a_sweep:
            await self.db.execute("select pgqueue.sweep_gates($1, 100)", UUID(int=0))
        await self.holder.connection.execute("update pgqueue.note set due_at = null where due_at is not null")
        await attend(self.holder)
        waiting = await self.db.fetch(
            "select gate.rule, "
            "  (select count(*) from pgqueue.gate_pass where gate_pass.gate = gate.id) as held "
            "from pgqueue.blocked join pgqueue.gate on gate.id = blocked.gate"
        )
        for row in waiting:
            assert row["held"] >= self.allowed[row["rule"]]
        places = "select count(*) from pgqueue.blocked where gate is not null"
        assert await self.db.fetchval(places) == len(waiting)

    async def drain(self) -> None:
        """Have all jobs end, and see that nothing is held then."""
        connection = self.holder.connection
        for _ in range(200):
            await self.wake(0)
            await connection.execute("update pgqueue.scheduled set scheduled_at = now()")
            await connection.execute("update pgqueue.note set due_at = null where due_at is not null")
            await self.holder.store.promote(connection, 100)
            for job_id in await self.db.fetch(
                "select job_id from pgqueue.blocked where gate is null and waits is null"
            ):
                await self.db.execute("select pgqueue.transition($1, 'pending')", job_id[0])
            for job_id in await self.db.fetch("select job_id from pgqueue.blocked where waits is not null"):
                await self.db.execute("select pgqueue.signal($1, 'called')", job_id[0])
            await attend(self.holder)
            await self.holder.claim()
            ids = await self._running()
            await connection.execute("update pgqueue.running set started_at = now() where started_at is null")
            await self.holder.store.finish(connection, self.holder.lease_id, "ghost", ids, None)
            await attend(self.holder)
            if not await self.db.fetchval("select count(*) from pgqueue.job where status is null"):
                break
        assert await self.db.fetchval("select count(*) from pgqueue.job where status is null") == 0
        for table in ("gate_pass", "note", "blocked", "ready", "running", "scheduled"):
            assert await self.db.fetchval(f"select count(*) from pgqueue.{table}") == 0, table


def pairs(gates: list[str]) -> list[tuple[str, str]]:
    return list(zip(gates[::2], gates[1::2], strict=True))


def key_id(rule: str, key: str) -> UUID:
    return UUID(bytes=sha256(f"{rule}\0{key}".encode()).digest()[:16])


SECONDS = float(os.environ.get("PGQUEUE_GATE_SECONDS", "3"))
MOVES = [
    "make", "make", "make", "make_some_and_roll_back", "claim", "claim", "prefetch", "finish", "finish",
    "finish_and_roll_back", "fail", "retry", "retry", "promote", "release", "suspend", "signal", "wake",
    "rescue", "cancel", "redrive", "move_by_hand", "pause", "set_limit", "attend", "attend", "sweep",
    "edit_the_queue", "edit_the_queue", "edit_the_keys", "edit_the_keys", "redrive_elsewhere",
    "redrive_with_other_keys",
]  # fmt: skip


@settings(
    # Not made smaller: what is found is found again with the same moves.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    max_examples=int(os.environ.get("PGQUEUE_GATE_EXAMPLES", "25")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(moves=st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 40)), min_size=15, max_size=60))
@pytest.mark.contract("P3.13")
async def test_a_limit_is_never_exceeded_and_nothing_leaks_or_hangs_whatever_happens_to_its_jobs(
    db: Connection, holder: Ghost, moves: list[tuple[str, int]]
) -> None:
    world = World(db, holder)
    await world.begin()
    held = await world.check({})
    for verb, number in [("make", 0), *moves]:
        await getattr(world, verb)(number)
        held = await world.check(held)
    await world.check_that_nothing_hangs()
    await world.check(held)
    await world.drain()


# Many at once


class Crowd:
    """Workers, producers, operators and those that attend, each on a connection of its own, with faults."""

    gates = (*GATES, *((("tenant", str(number)), ("queue/default", "")) for number in range(30)))
    most_of_queue = 12

    def __init__(self, pgq: PgQueue, db: Connection, dice: random.Random) -> None:
        self.pgq = pgq
        self.db = db
        self.dice = dice
        self.stopped = asyncio.Event()
        self.most: Counter[str] = Counter()

    async def produce(self) -> None:
        connection = await inside.database(self.pgq).connect(durable=False)
        while not self.stopped.is_set():
            transaction = connection.transaction()
            await transaction.start()
            for _ in range(self.dice.randint(1, 6)):
                await make(connection, *self.dice.choice(self.gates))
            await asyncio.sleep(self.dice.random() * 0.01)
            if self.dice.random() < 0.2:
                await transaction.rollback()
            else:
                await transaction.commit()
            await asyncio.sleep(0.01)
        await connection.close()

    async def work(self) -> None:
        async with ghost(self.pgq) as holder:
            attender = await inside.database(self.pgq).connect(durable=False)
            while not self.stopped.is_set():
                jobs = await holder.claim(self.dice.randint(1, 5))
                if not jobs:
                    await asyncio.sleep(0.005)
                    continue
                await asyncio.sleep(self.dice.random() * 0.004)
                await self._end(holder, attender, [job.id for job in jobs])
            await attender.close()
            async with holder.connection.transaction():
                await holder.die()
                await holder.store.lock_expired_lease(holder.connection, holder.lease_id)
                await holder.store.rescue(holder.connection, holder.lease_id, 100, 9)

    async def _end(self, holder: Ghost, attender: Connection, ids: list[UUID]) -> None:
        connection, lease, name = holder.connection, holder.lease_id, holder.name
        settled = Settled()
        transaction = connection.transaction()
        await transaction.start()
        chance = self.dice.random()
        if chance < 0.1:
            await holder.store.release(connection, lease, name, ids, settled)
        elif chance < 0.25:
            retries = [Retried(each, 0.0, "exception", ERROR) for each in ids]
            await holder.store.retry(connection, lease, name, retries, settled)
        elif chance < 0.35:
            ends = [Ended(each, JobStatus.FAILED, "exception", ERROR) for each in ids]
            await holder.store.fail(connection, lease, name, ends, settled)
        else:
            await holder.store.finish(connection, lease, name, ids, None, settled)
        if self.dice.random() < 0.1:
            await transaction.rollback()
            await holder.store.release(connection, lease, name, ids)
            return
        await transaction.commit()
        notes: Sequence[int] = settled.notes
        while notes and self.dice.random() < 0.9:
            transaction = attender.transaction()
            await transaction.start()
            notes = (await holder.store.attend(attender, notes, 100)).more
            if self.dice.random() < 0.1:
                await transaction.rollback()
                return
            await transaction.commit()

    async def keep_up(self) -> None:
        async with ghost(self.pgq) as holder:
            while not self.stopped.is_set():
                await holder.store.promote(holder.connection, 100)
                await attend(holder)
                await asyncio.sleep(0.02)

    async def disturb(self) -> None:
        connection = await inside.database(self.pgq).connect(durable=False)
        while not self.stopped.is_set():
            job_id = await connection.fetchval(
                "select job_id from (select job_id from pgqueue.blocked union all select job_id from "
                "pgqueue.ready) as waiting order by random() limit 1"
            )
            if job_id is not None:
                async with connection.transaction():
                    await connection.execute("select pgqueue.cancel($1)", job_id)
                    await asyncio.sleep(self.dice.random() * 0.01)
            job_id = await connection.fetchval(
                "select job_id from (select job_id from pgqueue.blocked union all select job_id from "
                "pgqueue.ready) as waiting order by random() limit 1"
            )
            if job_id is not None:
                queue, gates = self.dice.choice(QUEUES), self.dice.choice([None, *self.gates])
                with suppress(asyncpg.RestrictViolationError, asyncpg.ObjectNotInPrerequisiteStateError):
                    await connection.execute(
                        "select pgqueue.edit($1, $2, arguments => $3, gates => $4)",
                        job_id,
                        queue,
                        None if gates is None else "{}",
                        None if gates is None else json.dumps(gates),
                    )
            await asyncio.sleep(0.02)
        await connection.close()

    async def operate(self) -> None:
        connection = await inside.database(self.pgq).connect(durable=False)
        store = inside.store(self.pgq)
        while not self.stopped.is_set():
            slots = self.dice.randint(2, self.most_of_queue)
            await connection.execute("select pgqueue.set_limit('queue/default', $1)", slots)
            await asyncio.sleep(self.dice.random() * 0.2)
            if self.dice.random() < 0.3:
                await connection.execute("select pgqueue.set_paused('queue', 'default', true)")
                await store.await_claims(connection)
                await store.return_paused(connection)
                await asyncio.sleep(self.dice.random() * 0.1)
                await connection.execute("select pgqueue.set_paused('queue', 'default', false)")
        await connection.execute("select pgqueue.set_limit('queue/default', $1)", self.most_of_queue)
        await connection.close()

    async def watch(self) -> None:
        while not self.stopped.is_set():
            for row in await self.db.fetch(
                "select gate.rule, gate.key, count(*) from pgqueue.gate_pass "
                "join pgqueue.gate on gate.id = gate_pass.gate group by gate.rule, gate.key"
            ):
                self.most[row["rule"]] = max(self.most[row["rule"]], row["count"])
            for row in await self.db.fetch(
                "select job.gates, count(*) from pgqueue.job where job.gates is not null and job.id in ("
                "  select job_id from pgqueue.ready union all select job_id from pgqueue.running) group by 1"
            ):
                rule = row["gates"][0]
                self.most[rule] = max(self.most[rule], row["count"])
            await asyncio.sleep(0.01)


# What operators do has gates looked at anew, which would hide what was not noted.
@pytest.mark.contract("P3.13")
@pytest.mark.parametrize("is_operated", [False, True])
async def test_a_limit_holds_and_all_its_jobs_end_while_many_enqueue_end_and_attend_at_once(
    pgq: PgQueue, db: Connection, holder: Ghost, *, is_operated: bool
) -> None:
    world = World(db, holder)
    await world.begin()
    crowd = Crowd(pgq, db, random.Random(13))
    world.allowed["queue/default"] = crowd.most_of_queue
    await db.execute("select pgqueue.set_limit('queue/default', $1)", crowd.most_of_queue)
    tasks = [
        asyncio.create_task(each())
        for each in (
            *[crowd.produce] * 2, *[crowd.work] * 3, *[crowd.keep_up] * 2, crowd.disturb, crowd.watch,
            *[crowd.operate] * is_operated,
        )
    ]  # fmt: skip

    await asyncio.wait(tasks, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
    await eventually(lambda: holds(all(crowd.most[rule] > 0 for rule in world.allowed)))
    crowd.stopped.set()
    await asyncio.gather(*tasks)

    for rule, slots in world.allowed.items():
        assert 0 < crowd.most[rule] <= slots
    # The sweep would hide what was not noted.
    await world.check_that_nothing_hangs(after_a_sweep=False)
    await world.drain()


# What users write


@pytest.mark.contract("P3.13")
async def test_at_most_as_many_jobs_of_a_key_and_of_a_queue_run_at_once_as_their_limits_have_slots(
    pgq: PgQueue,
) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    pgq.queue("reports", slots=3)
    per_tenant = pgq.limit("tenant", slots=2)

    @pgq.task(limits=[per_tenant.by("tenant")], queue="reports")
    async def render(number: int, tenant: str = "a") -> None:
        for each in (tenant, "all"):
            running[each] += 1
            most[each] = max(most[each], running[each])
        with anyio.move_on_after(20):
            await eventually(lambda: holds(most[tenant] == 2 and most["all"] == 3))
        running.subtract((tenant, "all"))

    await render.enqueue(0)
    handles = await pgq.enqueue_many([render.s(n, "ab"[n % 2]) for n in range(20)])
    async with pgq.worker(queues=["reports"], concurrency=10):
        await asyncio.gather(*(handle.result(timeout=60) for handle in handles))

    assert most == {"a": 2, "b": 2, "all": 3}


@pytest.mark.contract("P3.13")
async def test_every_way_to_enqueue_keeps_to_limits(pgq: PgQueue, db: Connection) -> None:
    limit = pgq.limit("one", slots=1)

    @pgq.task(limits=[limit.by("key")])
    async def work(before: object = None, key: str = "a") -> None: ...

    first = await work.enqueue()
    many = await pgq.enqueue_many([work.s(), work.s(key="b")])
    async with db.transaction():
        within = await pgq.enqueue(work.s(), connection=db)
    later = await work.options(delay=3600).enqueue()
    keyed = await work.options(idempotency_key="k").enqueue()
    links = await pgq.enqueue_workflow(chain(work.si(key="b"), work.si(key="b")))
    behind = await work.options(depends_on=[first.id]).enqueue()
    ids = [first.id, *(each.id for each in many), within.id, later.id, keyed.id, links.id, behind.id]

    assert await places(db, ids) == [
        "pending", "blocked", "pending", "blocked", "scheduled", "blocked", "blocked", "blocked"
    ]  # fmt: skip
    assert await db.fetchval("select count(*) from pgqueue.gate_pass") == 2
    async with pgq.worker():
        handles: list[Any] = [first, *many, within, keyed, links, behind]
        for handle in handles:
            await handle.result(timeout=60)
    assert await db.fetchval("select count(*) from pgqueue.gate_pass") == 0
