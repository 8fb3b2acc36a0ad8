"""What operators do, and the upkeep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from kit.whole_store.calls import QUEUES, RANKS, SLOTS, STEPS
from kit.whole_store.clock import pass_time
from kit.whole_store.draining import ZERO
from kit.whole_store.oracle import ENDED, UNSTARTED
from kit.whole_store.working import EVENT, has_jobs
from kit.whole_store.world import Session, World, see
from pgqueue import DeadLetterFilter
from pgqueue.model.jobs import JobStatus
from pgqueue.options.retention import Retention
from pgqueue.upkeep.retention import FIRST_ID, LAST_ID

NUMBERS = st.integers(0, 47)
KEPT = 2000.0
"""Seconds for which ended jobs are kept."""


def has(place: str) -> Any:
    """Make the condition that a job is in *place*."""
    return lambda self: any(job.place == place for job in self.world.oracle.jobs.values())


class Operating:
    """Rules of operators, of whoever sends events, and of the upkeep."""

    world: World
    ended_at: dict[UUID, float]
    worker: Callable[[int], Session]

    def job(self, number: int) -> UUID | None:
        """Return one of the jobs that are committed."""
        ids = list(self.world.oracle.jobs)
        return ids[number % len(ids)] if ids else None

    def _jobs(self, number: int) -> list[UUID]:
        job_id = self.job(number)
        return [] if job_id is None else [job_id]

    # Operators

    @precondition(has_jobs)
    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        """Cancel a job: one that waits at once, one that runs by its worker."""
        for job_id in self._jobs(number):
            self.world.go(self._cancel(job_id))

    async def _cancel(self, job_id: UUID) -> None:
        world = self.world
        keeper = world.sessions["keeper"]
        done, answer = await world.attempt(
            keeper, world.db.fetchval("select pgqueue.cancel($1, 'asked', 'ann')", job_id)
        )
        if done:
            assert answer == world.oracle.cancel(job_id)
            world.tally[f"cancel {answer}"] += 1

    @precondition(lambda self: any(job.is_dead for job in self.world.oracle.jobs.values()))
    @rule(number=NUMBERS, resets=st.booleans(), moves=st.booleans())
    def redrive(self, number: int, resets: bool, moves: bool) -> None:
        """Redrive a dead letter, perhaps into another queue; nothing else can be redriven."""
        for job_id in self._jobs(number):
            self.world.go(self._redrive(job_id, resets=resets, queue=QUEUES[number % 2] if moves else None))

    async def _redrive(self, job_id: UUID, *, resets: bool, queue: str | None) -> None:
        world, oracle = self.world, self.world.oracle
        is_failed = oracle.jobs[job_id].place == "failed"
        redrive = world.store.redrive(
            world.db,
            job_id,
            queue=queue,
            arguments=None,
            gates=None,
            reset_attempts=resets,
            reason=None,
            actor=None,
        )
        try:
            done, _ = await world.attempt(world.sessions["keeper"], redrive)
        except asyncpg.PostgresError as error:
            see(not is_failed, error)
            return
        if done:
            assert is_failed, "redriven, and was no dead letter"
            oracle.reopen(job_id, resets=resets)
            world.tally["redriven"] += 1
            if queue is not None:
                oracle.jobs[job_id].queue = queue

    @precondition(lambda self: any(job.place in ENDED for job in self.world.oracle.jobs.values()))
    @rule(number=NUMBERS)
    def requeue(self, number: int) -> None:
        """Run an ended job again."""
        for job_id in self._jobs(number):
            self.world.go(self._requeue(job_id))

    async def _requeue(self, job_id: UUID) -> None:
        world = self.world
        statuses = [JobStatus(each) for each in sorted(ENDED)]
        done, requeued = await world.attempt(
            world.sessions["keeper"],
            world.store.requeue_jobs(world.db, [job_id], statuses, None, None, names_jobs=False),
        )
        if done:
            assert requeued is not None
            can = world.oracle.jobs[job_id].place in ENDED
            assert requeued.count == can
            if can:
                world.oracle.reopen(job_id)

    @precondition(lambda self: any(job.is_dead for job in self.world.oracle.jobs.values()))
    @rule(number=NUMBERS)
    def discard(self, number: int) -> None:
        """Discard a dead letter."""
        for job_id in self._jobs(number):
            self.world.go(self._discard(job_id))

    async def _discard(self, job_id: UUID) -> None:
        world, job = self.world, self.world.oracle.jobs[job_id]
        try:
            done, was_dead = await world.attempt(
                world.sessions["keeper"], world.store.discard(world.db, job_id, reason=None, actor=None)
            )
        except asyncpg.PostgresError:
            assert job.place != "failed"
            return
        if done:
            assert was_dead == job.is_dead
            job.is_dead = False

    @precondition(lambda self: any(job.is_dead for job in self.world.oracle.jobs.values()))
    @rule()
    def redrive_all(self) -> None:
        """Redrive all dead letters, as workers carry it on."""
        self.world.go(self._redrive_all())

    async def _redrive_all(self) -> None:
        world, oracle, db = self.world, self.world.oracle, self.world.db
        if world.is_open:
            return
        await world.store.begin_redrive(
            db,
            uuid4(),
            DeadLetterFilter(),
            rate=1e6,
            queue=None,
            reset_attempts=True,
            reason=None,
            actor=None,
        )
        await db.execute("update pgqueue.mass_redrive set carried_at = carried_at - interval '10 seconds'")
        while await world.store.carry_redrive(db, 1000) is not None:
            await db.execute(
                "update pgqueue.mass_redrive set carried_at = carried_at - interval '10 seconds'"
            )
        for job_id, job in oracle.jobs.items():
            if job.is_dead:
                oracle.reopen(job_id)

    @precondition(has_jobs)
    @rule(number=NUMBERS, priority=st.sampled_from((*RANKS, 9)))
    def reprioritise(self, number: int, priority: int) -> None:
        """Give a waiting job another priority."""
        for job_id in self._jobs(number):
            self.world.go(self._reprioritise(job_id, priority))

    async def _reprioritise(self, job_id: UUID, priority: int) -> None:
        world, job = self.world, self.world.oracle.jobs[job_id]
        change = world.store.reprioritise(world.db, job_id, priority, reason=None, actor=None)
        try:
            done, _ = await world.attempt(world.sessions["keeper"], change)
        except asyncpg.PostgresError as error:
            see(job.place not in UNSTARTED, error)
            return
        if done:
            assert job.place in UNSTARTED
            job.priority = priority

    @precondition(has_jobs)
    @rule(number=NUMBERS, paused=st.booleans())
    def pause(self, number: int, paused: bool) -> None:
        """Pause a queue or a task, or let it go on; what was prefetched of it returns to its place."""
        kind, name = [("queue", "default"), ("queue", "other"), ("task", "plain")][number % 3]
        self.world.go(self._pause(kind, name, paused=paused))

    async def _pause(self, kind: str, name: str, *, paused: bool) -> None:
        world, oracle, db = self.world, self.world.oracle, self.world.db
        keeper = world.sessions["keeper"]
        done, _ = await world.attempt(
            keeper, db.fetchval("select pgqueue.set_paused($1, $2, $3)", kind, name, paused)
        )
        if done and paused:
            before = await world.look()
            done, _ = await world.attempt(keeper, db.execute(await self._text("return_paused")))
            if done:
                after = await world.look()
                for job_id, row in before.items():
                    if row["place"] == "held" and row["paused"] and after[job_id]["place"] != "held":
                        oracle.release(job_id, noted=False)

    async def _text(self, name: str) -> str:
        from kit import inside

        return inside.statement(self.world.store, name)

    @precondition(has_jobs)
    @rule(number=NUMBERS, slots=st.integers(1, 4))
    def set_limit(self, number: int, slots: int) -> None:
        """Change a limit."""
        name = list(SLOTS)[number % len(SLOTS)]
        self.world.go(self._set_limit(name, slots))

    async def _set_limit(self, name: str, slots: int) -> None:
        world = self.world
        if not await world.db.fetchval(
            "select exists (select from pgqueue.limit_rule where name = $1)", name
        ):
            return
        done, _ = await world.attempt(
            world.sessions["keeper"], world.db.execute("select pgqueue.set_limit($1, $2)", name, slots)
        )
        if done:
            world.slots[name] = slots

    @precondition(lambda self: any(job.member for job in self.world.oracle.jobs.values()))
    @rule(number=NUMBERS, paused=st.booleans())
    def pause_workflow(self, number: int, paused: bool) -> None:
        """Pause a workflow, or let it go on."""
        self.world.go(self._pause_workflow(number, paused=paused))

    async def _pause_workflow(self, number: int, *, paused: bool) -> None:
        world = self.world
        rows = await world.db.fetch("select id from pgqueue.workflow order by id")
        if rows:
            workflow_id = rows[number % len(rows)]["id"]
            await world.attempt(
                world.sessions["keeper"], world.store.pause_workflow(world.db, workflow_id, paused=paused)
            )

    @precondition(
        lambda self: any(job.kind in ("block", "skip", "halt") for job in self.world.oracle.jobs.values())
    )
    @rule(number=NUMBERS)
    def resume_key(self, number: int) -> None:
        """Let an ordered key go on."""
        rule_name = ("order/line-block", "order/line-skip", "order/line-halt")[number % 3]
        world = self.world
        key = '"a"' if number % 2 else '"b"'
        resume = world.db.execute("select pgqueue.resume_key($1, $2)", rule_name, key)
        world.go(world.attempt(world.sessions["keeper"], resume))

    @precondition(
        lambda self: any(job.place in ("running", "suspended") for job in self.world.oracle.jobs.values())
    )
    @rule(number=NUMBERS, deferred=st.booleans())
    def send(self, number: int, deferred: bool) -> None:
        """Send a job an event, which it may wait for."""
        for job_id in self._jobs(number):
            if not self.world.oracle.jobs[job_id].member:
                self.world.go(self._send(job_id, deferred=deferred))

    async def _send(self, job_id: UUID, *, deferred: bool) -> None:
        world, job = self.world, self.world.oracle.jobs[job_id]
        done, sent = await world.attempt(
            world.sessions["keeper"],
            world.store.signal(world.db, job_id, EVENT, "1", None, is_deferred=deferred),
        )
        if not done:
            return
        assert sent is not None
        assert sent.answer == (job.place if job.place in ENDED else "sent")
        if sent.answer == "sent":
            job.events += 1
            if job.place == "suspended" and not deferred:
                job.wait()

    # Upkeep

    @rule(seconds=st.sampled_from(STEPS))
    def time_passes(self, seconds: float) -> None:
        """Have time pass."""
        self.world.go(self._pass(seconds))

    async def _pass(self, seconds: float) -> None:
        done, _ = await self.world.attempt(self.world.sessions["keeper"], pass_time(self.world.db, seconds))
        if done:
            self.world.oracle.now += seconds

    @precondition(has_jobs)
    @rule(most=st.sampled_from((1, 3, 1000)))
    def attend(self, most: int) -> None:
        """Attend to what was noted."""
        world = self.world
        world.go(world.attempt(world.sessions["keeper"], world.store.attend(world.db, None, most)))

    @precondition(has("scheduled"))
    @rule()
    def promote(self) -> None:
        """Have scheduled jobs be pending whose time has come."""
        self.world.go(self._chore("promote", self.world.oracle.promote))

    async def _chore(self, name: str, effect: Any) -> Any:
        world = self.world
        done, answer = await world.attempt(
            world.sessions["keeper"], getattr(world.store, name)(world.db, 1000)
        )
        if done:
            if world.is_open:
                # Rows that others have locked were passed over: they say which.
                await self._adopt(effect)
            else:
                effect()
        return answer

    async def _adopt(self, effect: Any) -> None:
        """Follow a chore that passed over what others have locked: what moved must have been due to."""
        import copy

        oracle = self.world.oracle
        due = copy.deepcopy(oracle)
        type(oracle).__dict__[effect.__name__](due)
        rows = await self.world.look()
        for job_id, job in list(oracle.jobs.items()):
            if rows[job_id]["place"] != job.place:
                oracle.jobs[job_id] = due.jobs[job_id]
            elif rows[job_id]["asked"] != job.asked:
                job.asked = due.jobs[job_id].asked

    @precondition(has("following"))
    @rule()
    def unblock(self) -> None:
        """Have jobs go on that follow one that has ended."""
        self.world.go(self._chore("unblock", self.world.oracle.unblock))

    @precondition(lambda self: any(job.asked for job in self.world.oracle.jobs.values()))
    @rule()
    def carry_out_cancels(self) -> None:
        """Settle requests to cancel whose attempts are over."""
        self.world.go(self._chore("carry_out_cancels", self.world.oracle.carry_out_cancels))

    @precondition(has("suspended"))
    @rule()
    def wake(self) -> None:
        """Wake jobs whose event has come."""
        self.world.go(self._wake())

    async def _wake(self) -> None:
        world = self.world
        done, _ = await world.attempt(world.sessions["keeper"], world.store.wake(world.db, 1000))
        if done:
            rows = await world.look()
            for job_id, job in world.oracle.jobs.items():
                if (
                    job.place == "suspended"
                    and job.events
                    and (not world.is_open or rows[job_id]["place"] == "queued")
                ):
                    job.wait()

    @precondition(
        lambda self: any(
            job.expires and job.expires <= self.world.oracle.now for job in self.world.oracle.jobs.values()
        )
    )
    @rule()
    def expire(self) -> None:
        """End jobs that wait past their expiry."""
        self.world.go(self._expire())

    async def _expire(self) -> None:
        world = self.world
        done, moved = await world.attempt(world.sessions["keeper"], world.store.expire(world.db, 1000))
        for each in moved or () if done else ():
            world.oracle.expire(each.job_id)
            world.tally["expired"] += 1

    @precondition(has_jobs)
    @rule(number=NUMBERS)
    def sweep(self, number: int) -> None:
        """Look for what was missed."""
        world, keeper = self.world, self.world.sessions["keeper"]
        sweeps = [
            lambda: world.store.sweep_gates(world.db, ZERO, 100),
            lambda: world.store.sweep_edges(world.db, ZERO, 100, 0.0),
            lambda: world.store.sweep_limiters(world.db, ZERO, 100),
            lambda: world.store.watch_workflows(world.db, ZERO, 100),
            lambda: world.store.purge_keys(world.db, 100),
            lambda: world.store.look_at_lanes(world.db, 0, 100),
            self._refill,
        ]
        world.go(world.attempt(keeper, sweeps[number % len(sweeps)]()))

    async def _refill(self) -> None:
        lanes = [row["id"] for row in await self.world.db.fetch("select id from pgqueue.lane")]
        await self.world.store.refill(self.world.db, lanes, ZERO, 100, 4)

    @precondition(
        lambda self: any(
            job.kind == "stranger" and job.place == "queued" for job in self.world.oracle.jobs.values()
        )
    )
    @rule()
    def fail_unknown(self) -> None:
        """Fail what was put aside and nobody declares."""
        self.world.go(self._fail_unknown())

    async def _fail_unknown(self) -> None:
        world, oracle = self.world, self.world.oracle
        done, failed = await world.attempt(
            world.sessions["keeper"], world.store.fail_unknown(world.db, 600.0, [], 1000)
        )
        for job_id, task in failed or () if done else ():
            is_declared = any(self.worker(who).lease not in oracle.beside for who in (0, 1))
            assert task == "stranger" or not is_declared, f"a live worker declares {task}"
            job = oracle.jobs[job_id]
            assert job.place == "queued"
            job.history.append("unknown_task")
            job.end("failed", "unknown_task")

    @precondition(lambda self: any(job.place in ENDED for job in self.world.oracle.jobs.values()))
    @rule()
    def prune(self) -> None:
        """Remove jobs that ended long ago."""
        self.world.go(self._prune())

    async def _prune(self) -> None:
        world, oracle = self.world, self.world.oracle
        kept = Retention(succeeded=KEPT, failed=KEPT, cancelled=KEPT, expired=KEPT)
        done, _ = await world.attempt(
            world.sessions["keeper"], world.store.purge(world.db, FIRST_ID, LAST_ID, 1000, kept)
        )
        if done:
            gone = oracle.jobs.keys() - (await world.look()).keys()
            for job_id in gone:
                assert oracle.now - self.ended_at.get(job_id, oracle.now) >= KEPT, "removed too early"
            oracle.prune(gone)
            world.tally["pruned"] += len(gone)

    @precondition(lambda self: self.world.oracle.now >= self.world.ticks_at)
    @rule()
    def tick(self) -> None:
        """Have schedules tick."""
        self.world.go(self.world.tick())
