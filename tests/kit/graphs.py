"""Random workflows, and workers that run them by the real statements, with faults at every commit."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4

import asyncpg

from kit import inside
from pgqueue import PgQueue
from pgqueue.model.ids import new_id
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended
from pgqueue.store import Barrier, Claimed, Edge, Graph, NewJob, Node, Settled, Store, Template

if TYPE_CHECKING:
    from conftest import Connection


@dataclass
class Draft:
    """A graph that is being drawn. Nodes are added upstream first, so ids grow along the edges."""

    lane: tuple[str, int] = ("default", 0)
    nodes: list[Node] = field(default_factory=list)
    barriers: dict[UUID, Barrier] = field(default_factory=dict)
    edges: list[tuple[UUID, UUID, int]] = field(default_factory=list)

    def job(self, task: str, after: Sequence[UUID] = (), **policy: Any) -> UUID:
        """Add a job; behind several nodes, or with a policy, it has a barrier."""
        node = new_id()
        self.nodes.append(Node(node, NewJob(Template(self.lane, task), "{}")))
        return self._behind(node, after, is_join=False, **policy)

    def join(self, after: Sequence[UUID], **policy: Any) -> UUID:
        """Add a join."""
        node = new_id()
        self.nodes.append(Node(node, None))
        return self._behind(node, after, is_join=True, **policy)

    def _behind(self, node: UUID, after: Sequence[UUID], *, is_join: bool, **policy: Any) -> UUID:
        self.edges += [(before, node, position) for position, before in enumerate(after)]
        if is_join or policy or len(after) > 1 or (after and after[0] in self.barriers_of_joins):
            self.barriers[node] = replace(Barrier(node, is_join, len(after)), **policy)
        return node

    @property
    def barriers_of_joins(self) -> set[UUID]:
        """The joins."""
        return {node for node, barrier in self.barriers.items() if barrier.is_join}

    def graph(self, root: UUID | None = None) -> Graph:
        """Return what was drawn."""
        own = {node.id for node in self.nodes}
        return Graph(
            new_id(),
            self.nodes[-1].id if root is None else root,
            None,
            self.nodes,
            list(self.barriers.values()),
            [
                Edge(before, node, position, node not in self.barriers and before in own)
                for before, node, position in self.edges
            ],
        )


def random_graph(dice: random.Random, depth: int) -> Graph:
    """Return a nested canvas: tasks, chains, groups and chords, some of which fail."""
    draft = Draft()

    def add(depth: int, after: list[UUID]) -> UUID:
        kind = dice.random()
        if depth == 0 or kind < 0.25:
            return draft.job("fail" if dice.random() < 0.08 else "ok", after)
        if kind < 0.5:
            end = after
            for _ in range(dice.randint(2, 4)):
                end = [add(depth - 1, end)]
            return end[0]
        if kind < 0.7:
            return draft.join([add(depth - 1, after) for _ in range(dice.randint(1, 6))])
        header = [add(depth - 1 if dice.random() < 0.3 else 0, after) for _ in range(dice.randint(1, 12))]
        policy: dict[str, Any] = dice.choice(
            [{}, {}, {}, {"runs_anyway": True}, {"needs": dice.randint(1, len(header))}, {"fail_fast": True}]
        )
        if dice.random() < 0.6:
            return draft.job("ok", header, **policy)
        return add(depth - 1, [draft.join(header, **policy)])

    return draft.graph(add(depth, []))


CHECKS = {
    "something hangs: it is blocked though all has ended": "select job_id from pgqueue.blocked",
    "a body ran although a member did not succeed": """
        select job.id from pgqueue.job join pgqueue.barrier using (id)
        where job.status in ('succeeded', 'failed') and needs is null and not runs_anyway
          and exists (
              select from pgqueue.edge where downstream = job.id and outcome is distinct from 'succeeded')
    """,
    "a body was cancelled although it could start": """
        select job.id from pgqueue.job join pgqueue.barrier using (id)
        where job.status = 'cancelled' and job.reason = 'upstream_failed'
          and not exists (
              select from pgqueue.edge where downstream = job.id and outcome is distinct from 'succeeded')
    """,
    "fewer members succeeded than a body needs": """
        select job.id from pgqueue.job join pgqueue.barrier using (id)
        where job.status in ('succeeded', 'failed') and needs > (
            select count(*) from pgqueue.edge where downstream = job.id and outcome = 'succeeded')
    """,
    "a link ran although the one before it did not succeed": """
        select job.id from pgqueue.job
        join pgqueue.edge on downstream = job.id and direct join pgqueue.job as before on before.id = upstream
        where job.status in ('succeeded', 'failed') and before.status <> 'succeeded'
    """,
    "a link was cancelled although the one before it succeeded": """
        select job.id from pgqueue.job
        join pgqueue.edge on downstream = job.id and direct join pgqueue.job as before on before.id = upstream
        where job.status = 'cancelled' and job.reason = 'upstream_failed' and before.status = 'succeeded'
    """,
    "counters differ from the edges": """
        select barrier.id from pgqueue.barrier cross join lateral (
            select count(*) filter (where outcome is null) as open,
                   count(*) filter (where outcome <> 'succeeded') as failed
            from pgqueue.edge where downstream = barrier.id
        ) as counted
        where (barrier.open, barrier.failed) <> (counted.open, counted.failed)
    """,
    "an edge was counted as what its upstream is not": """
        select upstream from pgqueue.edge join pgqueue.job on job.id = upstream where outcome <> status
    """,
}
"""What must hold of no node once everything has ended."""


AGAIN = """
    insert into pgqueue.note (node_id)
    select upstream from pgqueue.edge where outcome is not null order by random() limit 3
"""


class Crew:
    """Workers that crash: before a commit, between a commit and attending, and while they attend."""

    def __init__(self, pgq: PgQueue, dice: random.Random, *, crashes: float = 0.1) -> None:
        self._pgq = pgq
        self._dice = dice
        self._crashes = crashes
        self.store: Store = inside.store(pgq)
        self.heals = False
        """Whether tasks that fail succeed from now on."""
        self.ended: Counter[UUID] = Counter()
        """How often a job's handler ran to a committed end since it was last made pending."""
        self.crashed: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._connections: list[Connection] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work()) for _ in range(5)]
        self._tasks += [asyncio.create_task(self._keep_up()) for _ in range(2)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._connections:
            await connection.close()

    async def settled(self, db: Connection) -> None:
        """Wait until nothing runs, is ready or is noted. Raises what ended a worker."""
        for _ in range(3000):
            for task in self._tasks:
                if task.done():
                    task.result()
            busy = await db.fetchval(
                "select exists (select from pgqueue.ready) or exists (select from pgqueue.running) "
                "or exists (select from pgqueue.note)"
            )
            if not busy:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the workflows did not settle")

    async def violations(self, db: Connection) -> dict[str, int]:
        """Return what must not be, and of how many nodes it is."""
        found = {name: len(await db.fetch(sql)) for name, sql in CHECKS.items()}
        found["jobs ran to an end more than once"] = sum(count > 1 for count in self.ended.values())
        return {name: count for name, count in found.items() if count}

    async def _connect(self) -> Connection:
        connection = await inside.database(self._pgq).connect(durable=False)
        self._connections.append(connection)
        return connection

    def _crashes_at(self, place: str) -> bool:
        crashes = self._dice.random() < self._crashes
        self.crashed[place] += crashes
        return crashes

    async def _work(self) -> None:
        connection, aside = await self._connect(), await self._connect()
        lease_id = uuid4()
        await self.store.register_lease(
            connection, lease_id, "crew", ["default"], 3600, prefetch=0, lock_key=None, max_losses={}
        )
        while True:
            lanes = await connection.fetch("select id from pgqueue.lane")
            walk = [(lane["id"], 0) for lane in lanes] or [(1, 0)]
            jobs = await self.store.claim(connection, lease_id, self._dice.randint(1, 8), walk)
            await asyncio.sleep(self._dice.random() * 0.002)
            for fails in (False, True):
                some = [job for job in jobs if (job.task == "fail" and not self.heals) is fails]
                if some:
                    await self._end(connection, aside, lease_id, some, fails=fails)

    async def _end(
        self, connection: Connection, aside: Connection, lease_id: UUID, jobs: list[Claimed], *, fails: bool
    ) -> None:
        settled, ids = Settled(), [job.id for job in jobs]
        transaction = connection.transaction()
        await transaction.start()
        if fails:
            error = JobError("ValueError", "no")
            ends = [Ended(job_id, JobStatus.FAILED, "exception", error) for job_id in ids]
            await self.store.fail(connection, lease_id, "crew", ends, settled)
        else:
            await self.store.finish(connection, lease_id, "crew", ids, ["1"] * len(ids), settled)
        if self._crashes_at("before the commit"):
            await transaction.rollback()
            await self.store.release(connection, lease_id, "crew", ids)
            return
        await transaction.commit()
        self.ended.update(ids)
        await self._attend(aside, settled.notes)

    async def _attend(self, connection: Connection, notes: Sequence[int]) -> None:
        while notes and not self._crashes_at("before attending"):
            transaction = connection.transaction()
            await transaction.start()
            try:
                attended = await self.store.attend(connection, notes, 1000)
            except asyncpg.DeadlockDetectedError:
                await transaction.rollback()
                self.crashed["deadlocks"] += 1
                continue
            if self._crashes_at("while attending"):
                await transaction.rollback()
                return
            await transaction.commit()
            notes = attended.more

    async def _keep_up(self) -> None:
        connection = await self._connect()
        while True:
            try:
                taken = (await self.store.attend(connection, None, 200)).taken
            except asyncpg.DeadlockDetectedError:
                self.crashed["deadlocks"] += 1
                continue
            if not taken:
                # A note may be written twice, as by the sweep.
                if self._dice.random() < 0.2:
                    await connection.execute(AGAIN)
                await asyncio.sleep(0.03)
