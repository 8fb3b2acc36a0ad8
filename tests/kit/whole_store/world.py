"""A database with the sessions of several workers and clients, and the model beside it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
from asyncpg.transaction import Transaction

from kit import inside
from kit.whole_store.calls import declare
from kit.whole_store.clock import TABLES
from kit.whole_store.oracle import Known, Oracle
from pgqueue import PgQueue
from pgqueue.errors import KeyInFlightError
from pgqueue.schedules.ticker import plan
from pgqueue.schedules.ticks import Overlap
from pgqueue.store import Store

if TYPE_CHECKING:
    from conftest import Connection

T = TypeVar("T")
PATIENCE = 40
"""Milliseconds for which a statement waits for another session's open transaction."""
TTL = 1_000_000.0

LOOK = """
select job.id, job.task, job.reason,
       coalesce(job.status::text, case
           when running.started_at is not null then 'running' when running.job_id is not null then 'held'
           when ready.job_id is not null or blocked.gate is not null then 'queued'
           when scheduled.job_id is not null then 'scheduled'
           when blocked.waits_for is not null then 'following' when blocked.waits is not null then 'suspended'
           else 'joined' end) as place,
       coalesce(job.attempt, running.attempt, ready.attempt, scheduled.attempt, blocked.attempt, 0)
           as attempt,
       coalesce(running.losses, ready.losses, scheduled.losses, blocked.losses, 0) as losses,
       running.lease_id as lease, ready.position,
       array(select attempt.reason from pgqueue.attempt where job_id = job.id order by attempt.id) as history,
       (select lease_id from pgqueue.cancel_request where job_id = job.id) as asked,
       exists (select from pgqueue.dead_letter where job_id = job.id) as is_dead,
       coalesce((select paused_at is not null from pgqueue.workflow where id = job.workflow_id), false)
           as is_held,
       lane.id as lane, lane.queue, lane.priority, lane.paused, lane.task as aside
from pgqueue.job
left join pgqueue.ready on ready.job_id = job.id
left join pgqueue.running on running.job_id = job.id
left join pgqueue.scheduled on scheduled.job_id = job.id
left join pgqueue.blocked on blocked.job_id = job.id
left join pgqueue.lane on lane.id = coalesce(running.lane, ready.lane, scheduled.lane, blocked.lane, job.lane)
"""
KEPT = ("pgqueue.migration", "pgqueue.workflow_tally", "pgqueue.lane", "pgqueue.web_secret")


def see(holds: bool, otherwise: object) -> None:
    """Fail, and say why, unless something holds."""
    assert holds, otherwise


class Session:
    """One connection, and what its open transaction comes to once it is committed."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self.connection = connection
        self.transaction: Transaction | None = None
        self.effects: list[Callable[[], None]] = []
        self.keys: set[str] = set()
        self.lease = uuid4()
        self.beliefs: dict[UUID, UUID] = {}
        """Of a worker: what it believes that it runs, each with the lease under which it was claimed."""
        self.ahead: dict[UUID, UUID] = {}
        """... and what it has prefetched."""
        self.touched: set[UUID] = set()

    def then(self, effect: Callable[[], None]) -> None:
        """Have *effect* be so: now, or once the transaction is committed."""
        if self.transaction is None:
            effect()
        else:
            self.effects.append(effect)


class World:
    """The store, those who use it, and the model of it."""

    def __init__(self, dsn: str, runner: asyncio.Runner) -> None:
        self.dsn = dsn
        self.runner = runner
        self.store = Store("pgqueue")
        self.oracle = Oracle()
        self.sessions: dict[str, Session] = {}
        self.slots: dict[str, int] = {}
        self.ticks_at = 0.0
        self.tally: Counter[str] = Counter()
        """How often what has come about."""

    def go(self, what: Coroutine[Any, Any, T]) -> T:
        """Do something in the event loop."""
        return self.runner.run(what)

    async def open(self) -> None:
        """Open connections, once for all examples."""
        owner = await asyncpg.connect(self.dsn)
        name = await owner.fetchval("select current_database()")
        await owner.execute(f"alter database {name} set lock_timeout = '{PATIENCE}ms'")
        await owner.close()
        self.pgq = PgQueue(self.dsn)
        self.kinds = declare(self.pgq)
        await self.pgq.open()
        for name in ("worker-0", "worker-1", "keeper"):
            self.sessions[name] = Session(name, await inside.database(self.pgq).connect(durable=False))
        for name in ("client-0", "client-1"):
            self.sessions[name] = Session(name, await asyncpg.connect(self.dsn))
        for session in self.sessions.values():
            await session.connection.execute(f"set lock_timeout = {PATIENCE}")
        self.db = self.sessions["keeper"].connection

    async def close(self) -> None:
        """Close all."""
        for session in self.sessions.values():
            await session.connection.close()
        await self.pgq.close()

    async def begin(self) -> None:
        """Begin anew, with nothing stored."""
        tables = [row["name"] for row in await self.db.fetch(TABLES)]
        await self.db.execute(
            "; ".join(f"delete from {name}" for name in tables if name not in KEPT)
            + "; update pgqueue.lane set paused = false, removed_at = null"
        )
        await self.db.execute("delete from pgqueue.lane where task <> ''")
        inside.forget_limits(self.pgq)
        self.oracle = Oracle()
        self.slots, self.ticks_at = {}, 600.0
        for session in self.sessions.values():
            session.beliefs, session.ahead = {}, {}
            session.effects, session.transaction, session.keys = [], None, set()
        for name in ("worker-0", "worker-1"):
            await self.come(self.sessions[name])
        schedules: list[tuple[Overlap, str]] = [("allow", "plain"), ("skip", "limited")]
        for overlap, kind in schedules:
            call = self.kinds[kind].make(0)
            await self.pgq.schedules.create(overlap, call, every=600, overlap=overlap)

    async def come(self, worker: Session) -> None:
        """Have a worker take a new lease."""
        worker.lease = uuid4()
        await self.store.register_lease(
            worker.connection, worker.lease, worker.name, ["default", "other", "shared"], TTL, prefetch=0,
            lock_key=None, max_losses={"fragile": 0},
            tasks=[name for name in self.kinds if name != "stranger"],
        )  # fmt: skip

    async def tick(self) -> None:
        """Have the schedules tick that are due, one job each at most."""
        connection, ticker = self.db, inside.ticker_of(self.pgq)
        before = await self.look()

        async def tick() -> int:
            async with connection.transaction():
                rows = await self.store.take_due(connection, 100, (), has_cron=True)
                if rows:
                    await ticker.write(connection, [plan(row, ticker.codec) for row in rows])
            return len(rows)

        done, ticked = await self.attempt(self.sessions["keeper"], tick())
        if not done:
            return
        assert ticked is not None
        self.ticks_at = self.oracle.now + 600.0
        self.tally["ticked"] += ticked
        after = await self.look()
        fresh = after.keys() - before.keys()
        assert len(fresh) <= ticked, "a schedule ticked twice"
        for job_id in fresh:
            self.oracle.jobs[job_id] = Known(
                "queued", "ticked", task=after[job_id]["task"], limited=after[job_id]["task"] == "limited"
            )

    async def look(self, connection: Connection | None = None) -> dict[UUID, Any]:
        """Return all jobs that are committed, as they stand."""
        return {row["id"]: row for row in await (connection or self.db).fetch(LOOK)}

    @property
    def is_open(self) -> bool:
        """Whether any session has an open transaction."""
        return any(session.transaction is not None for session in self.sessions.values())

    async def attempt(self, session: Session, what: Awaitable[T]) -> tuple[bool, T | None]:
        """Do something in a session; return whether it was done.

        It is not if it had to wait for the open transaction of another session: then nothing has changed,
        and its own transaction is over.
        """
        try:
            return True, await what
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, KeyInFlightError) as error:
            see(self.is_open, f"{error!r}, and nobody has a lock")
            self.tally["waited in vain"] += 1
            if session.transaction is not None:
                await self.end(session, commits=False)
            return False, None

    async def start(self, session: Session) -> None:
        """Begin a transaction."""
        session.transaction = session.connection.transaction()
        await session.transaction.start()

    async def end(self, session: Session, *, commits: bool) -> None:
        """Commit the session's transaction, or roll it back."""
        assert session.transaction is not None
        if commits:
            await session.transaction.commit()
        else:
            await session.transaction.rollback()
        session.transaction = None
        effects, session.effects = session.effects, []
        session.keys, session.touched = set(), set()
        self.tally["committed" if commits else "rolled back"] += bool(effects)
        for effect in effects if commits else ():
            effect()
