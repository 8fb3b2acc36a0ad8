"""Any workflow comes to what a model says, however its calls end and in whatever order."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kit import inside
from kit.canvases import Graphed, Plan, Tasks, canvas, graph, graphs, plans
from kit.faults import ghost
from kit.foretelling import End, Fate, Model, fits
from kit.waiting import eventually

from pgqueue import JobContext, PgQueue, Reject
from pgqueue.errors import PgQueueError, ResultTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conftest import Connection

    from pgqueue.tasks.workflow_handle import WorkflowHandle

ROUNDS = int(os.environ.get("PGQUEUE_STRESS_ROUNDS", "3"))
"""As for test_stress.py."""
WORKFLOWS = 12
WITHIN = 60.0


class World:
    """Runs calls as they are fated, and remembers what happened."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.ended: set[int] = set()
        self.runs: Counter[int] = Counter()
        self.given: dict[int, Any] = {}
        self.early: list[int] = []
        self.fates: dict[int, Fate] = {}

    def declare(self, pgq: PgQueue) -> Tasks:
        """Declare the tasks."""

        @pgq.task
        async def node(ctx: JobContext, value: Any = None, *, label: int, fate: str) -> int:
            self.begin(label, value)
            await asyncio.sleep(self.dice.random() * 0.003)
            if self.runs[label] == 1 and fate in {"succeed the second time", "fail twice"}:
                raise ValueError("not yet")
            self.ended.add(label)
            if fate == "be cancelled while it runs":
                await pgq.cancel(ctx.job_id)
                await asyncio.Event().wait()
            if fate == "fail twice":
                raise ValueError("never")
            if fate in {"fail", "be discarded"}:
                raise Reject("no")
            return label

        @pgq.task
        async def called(value: Any, *, label: int) -> None:
            self.begin(label, value)

        return Tasks(node, called)

    def begin(self, label: int, value: Any) -> None:
        """Note that a handler begins."""
        self.runs[label] += 1
        self.given[label] = value
        if label in self.fates and not self.fates[label].reached(self.ended):
            self.early.append(label)


async def do_fates(pgq: PgQueue, db: Connection, world: World) -> None:
    """Do to the calls that were set aside what they are fated to."""
    store = inside.store(pgq)
    while True:
        rows = await db.fetch(
            "select job.id, job.tags[1]::integer as label, ready.lane, lane.queue as fate from pgqueue.ready "
            "join pgqueue.lane on lane.id = ready.lane join pgqueue.job on job.id = ready.job_id "
            "where lane.queue <> 'default'"
        )
        world.dice.shuffle(rows)
        for row in rows:
            world.ended.add(row["label"])
            match row["fate"]:
                case "be cancelled":
                    await pgq.cancel(row["id"])
                case "expire":
                    await db.execute("update pgqueue.job set expires_at = now() where id = $1", row["id"])
                    await db.execute(
                        "insert into pgqueue.expiry (job_id, check_at) values ($1, now())", row["id"]
                    )
                    await store.expire(db, 100)
                case "be purged":
                    async with db.transaction():
                        await db.execute("delete from pgqueue.ready where job_id = $1", row["id"])
                        await db.execute("delete from pgqueue.job where id = $1", row["id"])
        # As the upkeep does, for what was removed; but without waiting for a minute of silence.
        await store.sweep_edges(db, UUID(int=0), 500, 0)
        lost = {row["lane"] for row in rows if row["fate"] == "be lost"}
        if lost:
            async with ghost(pgq) as holder:
                walk = [(lane, 0) for lane in lost]
                claimed = await store.claim(holder.connection, holder.lease_id, 100, walk)
                of_them = "select tags[1]::integer as label from pgqueue.job where id = any($1)"
                found = await db.fetch(of_them, [job.id for job in claimed])
                world.ended |= {row["label"] for row in found}
                await holder.die()
                async with holder.connection.transaction():
                    await store.lock_expired_lease(holder.connection, holder.lease_id)
                    await store.rescue(holder.connection, holder.lease_id, 100, 0)
        for letter in await db.fetch(
            "select job_id from pgqueue.dead_letter join pgqueue.job on id = job_id "
            "where arguments::text like '%be discarded%'"
        ):
            await pgq.discard(letter["job_id"])
        await asyncio.sleep(0.02)


@asynccontextmanager
async def running(dsn: str, world: World) -> AsyncIterator[tuple[PgQueue, Tasks]]:
    """Have two workers with connections of their own run calls, and fates be done."""
    async with PgQueue(dsn) as pgq, PgQueue(dsn) as other:
        world.declare(other)
        tasks = world.declare(pgq)
        async with (
            pgq.worker(concurrency=10, poll_interval=0.1),
            other.worker(concurrency=3, poll_interval=0.1),
        ):
            connection = await inside.database(pgq).connect(durable=True)
            async with asyncio.TaskGroup() as group:
                fates = group.create_task(do_fates(pgq, connection, world))
                yield pgq, tasks
                fates.cancel()
            await connection.close()


async def settled(db: Connection) -> None:
    """Wait until nothing is left to do."""

    async def is_idle() -> bool:
        busy = " or ".join(
            f"exists (select from pgqueue.{table})"
            for table in ("ready", "running", "scheduled", "blocked", "note")
        )
        return not await db.fetchval(f"select {busy}")

    await eventually(is_idle, within=WITHIN)


async def differences(db: Connection, world: World, model: Model) -> list[str]:
    """Say what differs from the model."""
    rows = {
        int(row["tags"][0]): row
        for row in await db.fetch("select id, tags, status::text, reason, error::text from pgqueue.job")
        if row["tags"]
    }
    found = []
    for label, fate in model.fates.items():
        row = rows.get(label)
        status = None if row is None else row["status"]
        runs = world.runs[label]
        if label in model.loose:
            if row is not None and status is None:
                found.append(f"{label} has not ended")
            if runs > 2:
                found.append(f"{label} ran {runs} times")
            continue
        if status != fate.status:
            found.append(f"{label} {fate.call} ended as {status}, not {fate.status}")
        if fate.call.fate != "be cancelled while it runs" and runs != fate.runs:
            found.append(f"{label} {fate.call} ran {runs} times, not {fate.runs}")
        if runs and not fits(fate.result, world.given[label]):
            found.append(f"{label} {fate.call} was given {world.given[label]}, not {fate.result}")
        if row is not None and status == "cancelled":
            reason = row["reason"]
            if (reason == "upstream_failed") != fate.is_spoilt:
                found.append(f"{label} {fate.call} was cancelled because of {reason}")
            found += [
                f"{label}: its error names not {name}: {row['error']}"
                for name in fate.names & rows.keys() - model.loose
                if str(rows[name]["id"]) not in row["error"]
            ]
    early = [f"{label} started early" for label in world.early if label not in model.loose]
    return found + early


@pytest.mark.contract("P7.3", "P7.4", "P7.6", "P7.8", "P7.9", "P7.10", "P7.11", "P7.13", "P7.15", "P7.17")
@settings(
    max_examples=2 * ROUNDS,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(
    st.lists(plans(3), min_size=WORKFLOWS, max_size=WORKFLOWS),
    st.lists(graphs(), min_size=2, max_size=2),
    st.integers(0, 2**32),
)
async def test_a_random_workflow_comes_to_what_the_model_says(
    dsn: str, db: Connection, written: list[Plan], drawn: list[Graphed], seed: int
) -> None:
    world, model = World(random.Random(seed)), Model()
    async with running(dsn, world) as (pgq, tasks):
        handles: list[tuple[End, Plan | Graphed, WorkflowHandle[Any]]] = []
        for plan in written:
            end = model.read(plan)
            world.fates = model.fates
            handles.append((end, plan, await pgq.enqueue_workflow(canvas(tasks, plan))))
        for number, nodes in enumerate(drawn):
            end = model.read_graph(nodes)
            flow = pgq.workflow(f"graph {number}")
            graph(flow, tasks, nodes)
            handles.append((end, nodes, await flow.enqueue()))
        for end, what, handle in handles:
            if end.succeeds:
                assert fits(end.result, await handle.result(WITHIN)), what
            else:
                with pytest.raises(PgQueueError) as raised:
                    await handle.result(WITHIN)
                assert not isinstance(raised.value, ResultTimeoutError), what
            if not end.is_gone:
                await handle.join(WITHIN)
        await settled(db)

        found = await differences(db, world, model)
        assert not found, "\n".join(found)
