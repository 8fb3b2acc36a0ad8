"""What workers do: they claim, and end attempts, also such as they hold no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from kit.whole_store.calls import DELAY
from kit.whole_store.draining import rescue
from kit.whole_store.oracle import LOSSES, Place
from kit.whole_store.world import PATIENCE, TTL, Session, World
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, PutAside, Restarted, Retried, Suspended
from pgqueue.store import Underway

NUMBERS = st.integers(0, 47)
WHO = st.integers(0, 1)
ERROR = JobError("ValueError", "no")
EVENT = "called"
PAIR = 2
MOVES = st.lists(
    st.tuples(
        st.sampled_from(("finish", "fail", "retry", "release", "suspend", "step", "enter", "put_aside")),
        NUMBERS,
    ),
    min_size=1,
    max_size=4,
)


def has_jobs(self: Any) -> bool:
    """Whether there are jobs."""
    return bool(self.world.oracle.jobs)


def is_busy(self: Any) -> bool:
    """Whether a worker believes to run something."""
    return bool(self.worker(0).beliefs or self.worker(1).beliefs)


class Working:
    """Rules of workers."""

    world: World
    door: tuple[UUID, UUID, int] | None
    """Who holds the model's limiter: a job, the lease under which it runs, and which of its claims."""

    def worker(self, number: int) -> Session:
        """Return a worker."""
        return self.world.sessions[f"worker-{number % 2}"]

    # Claims

    @precondition(has_jobs)
    @rule(who=WHO, limit=st.integers(1, 6), ahead=st.booleans())
    def claim(self, who: int, limit: int, ahead: bool) -> None:
        """Claim jobs, or prefetch some: the first in the order of priorities, and of no paused queue."""
        self.world.go(self._claim(self.worker(who), limit, ahead=ahead))

    async def _claim(self, worker: Session, limit: int, *, ahead: bool) -> None:
        world, oracle = self.world, self.world.oracle
        rows = await world.look()
        found = oracle.differences(rows)
        assert not found, "; ".join(found)
        lanes = [
            row["id"]
            for row in await world.db.fetch("select id from pgqueue.lane order by priority desc, id")
        ]
        if not lanes:
            return
        walk = [(lane, 0) for lane in lanes]
        expected = [
            row["id"]
            for row in sorted(
                rows.values(), key=lambda row: (-row["priority"], row["lane"], row["position"] or 0)
            )
            if row["position"] is not None and not row["paused"]
        ][:limit]
        if worker.lease in oracle.beside or not await self._is_valid(worker):
            expected = []
        if ahead:
            got = await world.store.prefetch(worker.connection, worker.lease, limit, walk)
            ids = [row[0] for row in got]
        else:
            claimed = await world.store.claim(worker.connection, worker.lease, limit, walk)
            ids = [job.id for job in claimed]
        if not world.is_open:
            assert set(ids) == set(expected), f"claimed {ids} instead of {expected}"
        late = [] if ahead else [job.id for job in claimed if job.expired]
        for job_id in late:
            expires = oracle.jobs[job_id].expires
            assert expires is not None, "it does not expire"
            assert expires <= oracle.now, "it has not expired yet"
        if late:
            # As the executor does with such a job.
            ends = [Ended(job_id, JobStatus.EXPIRED, "expired", None) for job_id in late]
            await world.store.fail(worker.connection, worker.lease, worker.name, ends)
        lease = worker.lease

        def take() -> None:
            for job_id in ids:
                oracle.claim(job_id, lease, starts=not ahead)
                (worker.ahead if ahead else worker.beliefs)[job_id] = lease
            for job_id in late:
                oracle.fail(job_id, "expired", "expired")
                del worker.beliefs[job_id]

        worker.then(take)
        world.tally["claimed"] += len(ids)
        world.tally["expired at the claim"] += len(late)

    async def _is_valid(self, worker: Session) -> bool:
        return bool(
            await self.world.db.fetchval(
                "select expires_at > now() from pgqueue.lease where id = $1", worker.lease
            )
        )

    @precondition(lambda self: self.worker(0).ahead or self.worker(1).ahead)
    @rule(who=WHO)
    def start_prefetched(self, who: int) -> None:
        """Start what was prefetched and nobody has taken over; what is paused returns to its queue."""
        worker = self.worker(who) if self.worker(who).ahead else self.worker(who + 1)
        if worker.ahead and worker.transaction is None:
            self.world.go(self._start(worker))

    async def _start(self, worker: Session) -> None:
        world, oracle = self.world, self.world.oracle
        ids = [job_id for job_id, lease in worker.ahead.items() if lease == worker.lease]
        rows = await world.look()
        held = {job_id for job_id in ids if oracle.holds(job_id, worker.lease, started=False)}
        if not await world.db.fetchval(
            "select exists (select from pgqueue.lease where id = $1)", worker.lease
        ):
            held = set()
        paused = {job_id for job_id in held if rows[job_id]["paused"]}
        done, started = await world.attempt(worker, world.store.start(worker.connection, worker.lease, ids))
        if not done:
            return
        assert started is not None
        assert {job.id for job in started} == held - paused
        worker.ahead = {}
        for job_id in held - paused:
            oracle.start(job_id)
            worker.beliefs[job_id] = worker.lease
        for job_id in paused:
            oracle.release(job_id, noted=False)

    @precondition(lambda self: self.worker(0).ahead or self.worker(1).ahead)
    @rule(who=WHO, limit=st.integers(1, 3))
    def take_over(self, who: int, limit: int) -> None:
        """Take over what another worker has prefetched."""
        worker = self.worker(who)
        if worker.transaction is None:
            self.world.go(self._take_over(worker, limit))

    async def _take_over(self, worker: Session, limit: int) -> None:
        world, oracle = self.world, self.world.oracle
        lanes = [row["id"] for row in await world.db.fetch("select id from pgqueue.lane")]
        taken = await world.store.take_over_prefetched(worker.connection, worker.lease, limit, lanes)
        for job_id, *_ in taken:
            job = oracle.jobs[job_id]
            assert job.place == "held", f"taken over while it was {job.place}"
            assert job.lease != worker.lease
            job.lease = worker.lease
            worker.ahead[job_id] = worker.lease

    @precondition(is_busy)
    @rule(who=WHO, number=NUMBERS)
    def doubt(self, who: int, number: int) -> None:
        """Hold a claimed job back as one that may have ended its worker before."""
        worker = self.believing(who)
        if (job_id := self._one(worker, number)) and worker.transaction is None:
            self.world.go(self._doubt(worker, job_id))

    async def _doubt(self, worker: Session, job_id: UUID) -> None:
        world, oracle = self.world, self.world.oracle
        lease = worker.beliefs[job_id]
        done, held = await world.attempt(
            worker, world.store.hold_suspects(worker.connection, lease, [job_id])
        )
        if done:
            assert (held == {job_id}) == oracle.holds(job_id, lease)
            del worker.beliefs[job_id]
            if held:
                oracle.jobs[job_id].place = "held"
                oracle.jobs[job_id].attempt -= 1
                worker.ahead[job_id] = lease

    # Ends. Whatever a worker believes: the fence decides.

    def believing(self, number: int) -> Session:
        """Return a worker that believes to run something, if one does."""
        workers = [self.worker(0), self.worker(1)]
        return next((each for each in workers[number % 2 :] + workers if each.beliefs), workers[0])

    def _one(self, worker: Session, number: int) -> UUID | None:
        ids = sorted(worker.beliefs.keys() - worker.touched)
        return ids[number % len(ids)] if ids else None

    def _conclude(
        self,
        who: int,
        number: int,
        write: Callable[[Session, UUID, UUID], Awaitable[bool]],
        effect: Callable[[UUID], Any],
    ) -> None:
        worker = self.believing(who)
        job_id = self._one(worker, number)
        if job_id is not None:
            self.world.go(self._write(worker, job_id, write, effect))

    async def _write(
        self,
        worker: Session,
        job_id: UUID,
        write: Callable[[Session, UUID, UUID], Awaitable[bool]],
        effect: Callable[[UUID], Any],
    ) -> None:
        world, lease = self.world, worker.beliefs[job_id]
        done, accepted = await world.attempt(worker, write(worker, job_id, lease))
        if not done:
            return
        holds = world.oracle.holds(job_id, lease)
        assert bool(accepted) == holds, f"an outcome was {'accepted' if accepted else 'fenced off'}"
        world.tally["outcomes accepted" if holds else "outcomes fenced off"] += 1
        if worker.transaction is not None:
            worker.touched.add(job_id)

        was_asked = holds and world.oracle.jobs[job_id].asked is not None

        def conclude() -> None:
            if holds:
                job = world.oracle.jobs[job_id]
                # Asked since this was written: nothing has waited for that, and the upkeep finds it.
                late, job.asked = (None, job.asked) if was_asked else (job.asked, None)
                effect(job_id)
                job.asked = job.asked if was_asked else late
            worker.beliefs.pop(job_id, None)

        worker.then(conclude)

    @precondition(is_busy)
    @rule(who=WHO, number=NUMBERS)
    def finish(self, who: int, number: int) -> None:
        """Report a success."""
        self._conclude(who, number, self._finish, self.world.oracle.finish)

    async def _finish(self, worker: Session, job_id: UUID, lease: UUID) -> bool:
        ids = await self.world.store.finish(worker.connection, lease, worker.name, [job_id], ["1"])
        return job_id in ids

    @precondition(is_busy)
    @rule(who=WHO, number=NUMBERS)
    def fail(self, who: int, number: int) -> None:
        """Report a failure, or that a job was cancelled as it was asked."""
        how: Place = "cancelled" if number % 5 == 0 else "failed"
        reason = "cancelled" if how == "cancelled" else "exception"

        async def write(worker: Session, job_id: UUID, lease: UUID) -> bool:
            end = Ended(job_id, JobStatus(how), reason, ERROR)
            return job_id in await self.world.store.fail(worker.connection, lease, worker.name, [end])

        self._conclude(who, number, write, lambda job_id: self.world.oracle.fail(job_id, how, reason))

    @precondition(is_busy)
    @rule(who=WHO, number=NUMBERS, delay=st.sampled_from((0.0, DELAY)), counts=st.booleans())
    def retry(self, who: int, number: int, delay: float, counts: bool) -> None:
        """Have a job run again, or snooze it."""
        reason = "exception" if counts else "snoozed"

        async def write(worker: Session, job_id: UUID, lease: UUID) -> bool:
            end = Retried(job_id, delay, reason, ERROR, counts)
            return job_id in await self.world.store.retry(worker.connection, lease, worker.name, [end])

        self._conclude(
            who, number, write, lambda job_id: self.world.oracle.retry(job_id, delay, reason, counts=counts)
        )

    @precondition(is_busy)
    @rule(who=WHO, number=NUMBERS)
    def release(self, who: int, number: int) -> None:
        """Give a job back."""

        async def write(worker: Session, job_id: UUID, lease: UUID) -> bool:
            return job_id in await self.world.store.release(worker.connection, lease, worker.name, [job_id])

        self._conclude(who, number, write, self.world.oracle.release)

    @precondition(is_busy)
    @rule(who=WHO, number=NUMBERS)
    def put_aside(self, who: int, number: int) -> None:
        """Give a job back whose task this worker does not run."""

        async def write(worker: Session, job_id: UUID, lease: UUID) -> bool:
            job = self.world.oracle.jobs.get(job_id)
            if job is None:
                return False
            connection = worker.connection
            await self.world.store.make_lanes(connection, [(job.queue, job.priority, job.task)])
            end = PutAside(job_id, job.task, job.queue, job.priority)
            return job_id in await self.world.store.put_aside(connection, lease, [end])

        def effect(job_id: UUID) -> None:
            job = self.world.oracle.jobs[job_id]
            job.attempt -= 1
            job.wait()

        if self.believing(who).transaction is None:
            self._conclude(who, number, write, effect)

    @precondition(is_busy)
    @rule(who=WHO, number=NUMBERS)
    def suspend(self, who: int, number: int) -> None:
        """Have a job wait for an event."""

        async def write(worker: Session, job_id: UUID, lease: UUID) -> bool:
            wait = Suspended(job_id, None, None, EVENT)
            return job_id in (await self.world.store.suspend(worker.connection, lease, [wait]))[0]

        self._conclude(who, number, write, self.world.oracle.suspend)

    @precondition(is_busy)
    @rule(who=WHO, number=NUMBERS)
    def restart(self, who: int, number: int) -> None:
        """Have a job begin anew with other arguments."""

        async def write(worker: Session, job_id: UUID, lease: UUID) -> bool:
            begin = Restarted(job_id, '{"key": "a"}')
            return job_id in (await self.world.store.restart(worker.connection, lease, [begin]))[0]

        self._conclude(who, number, write, self.world.oracle.restart)

    @precondition(is_busy)
    @rule(who=WHO, number=NUMBERS)
    def step(self, who: int, number: int) -> None:
        """Store a step, and progress, in the middle of an attempt."""
        worker = self.believing(who)
        if job_id := self._one(worker, number):
            self.world.go(self._step(worker, job_id))

    async def _step(self, worker: Session, job_id: UUID) -> None:
        world, lease = self.world, worker.beliefs[job_id]
        done, stored = await world.attempt(
            worker, world.store.record_step(worker.connection, job_id, lease, "step", "1")
        )
        if done:
            world.tally["steps"] += 1
            assert (stored is not None) == world.oracle.holds(job_id, lease), (
                "a step was stored past the fence"
            )

    @precondition(is_busy)
    @rule(who=WHO, number=NUMBERS)
    def enter(self, who: int, number: int) -> None:
        """Ask for a slot that one attempt may hold at a time."""
        worker = self.believing(who)
        if (job_id := self._one(worker, number)) and worker.transaction is None:
            self.world.go(self._enter(worker, job_id))

    async def _enter(self, worker: Session, job_id: UUID) -> None:
        world, oracle, lease = self.world, self.world.oracle, worker.beliefs[job_id]
        ask = world.store.take_limiter(
            worker.connection, uuid4(), ("slots", "door", 1, None), job_id, lease, waits=False
        )
        done, taken = await world.attempt(worker, ask)
        if not done:
            return
        assert taken is not None
        is_taken = (
            self.door is not None
            and oracle.holds(*self.door[:2])
            and oracle.jobs[self.door[0]].claims == self.door[2]
        )
        expected = "lost" if not oracle.holds(job_id, lease) else "full" if is_taken else "held"
        assert taken.verdict == expected, f"a limiter said {taken.verdict} instead of {expected}"
        if expected == "held":
            self.door = (job_id, lease, oracle.jobs[job_id].claims)

    @precondition(has_jobs)
    @rule(who=WHO, commits=st.booleans(), begins=st.booleans())
    def transact(self, who: int, commits: bool, begins: bool) -> None:
        """Begin a transaction in which attempts end, or end it: committed, or rolled back."""
        worker = self.worker(who)
        if worker.transaction is not None:
            self.world.go(self.world.end(worker, commits=commits))
        elif begins:
            self.world.go(self.world.start(worker))

    # Several of these at once: most of what a worker does is that

    @precondition(has_jobs)
    @rule(who=WHO, limit=st.integers(2, 6), moves=MOVES)
    def work(self, who: int, limit: int, moves: list[tuple[str, int]]) -> None:
        """Claim jobs, and end some."""
        self.come_back(who)
        self.attend_to_some()
        self.claim(who, limit, ahead=False)
        for move, number in moves:
            self._move(move, who, number)

    @precondition(is_busy)
    @rule(who=WHO, moves=MOVES)
    def conclude_some(self, who: int, moves: list[tuple[str, int]]) -> None:
        """End some attempts."""
        for move, number in moves:
            self._move(move, who, number)

    @precondition(has_jobs)
    @rule(who=WHO, limit=st.integers(2, 6), moves=MOVES, returns=st.booleans())
    def come_late(self, who: int, limit: int, moves: list[tuple[str, int]], returns: bool) -> None:
        """Claim jobs, lose the lease, perhaps have another worker claim them, and end some of before."""
        worker = self.worker(who)
        self.come_back(who)
        self.come_back(1 - who)
        self.attend_to_some()
        self.claim(who, limit, ahead=False)
        if worker.transaction is not None:
            return
        self.lose(who, 1000, renews=False)
        if returns:
            self.claim(1 - who, limit, ahead=False)
        for move, number in moves:
            self._move(move, who, number)

    @precondition(has_jobs)
    @rule(who=WHO, limit=st.integers(1, 4), taken=st.booleans())
    def work_ahead(self, who: int, limit: int, taken: bool) -> None:
        """Prefetch jobs, of which another worker may take some over, and start what is left."""
        self.claim(who, limit, ahead=True)
        if taken:
            self.take_over(1 - who, 1)
        self.start_prefetched(who)

    def attend_to_some(self) -> None:
        """Let limited jobs through."""
        world = self.world
        world.go(world.attempt(world.sessions["keeper"], world.store.attend(world.db, None, 1000)))

    def _move(self, move: str, who: int, number: int) -> None:
        if move == "retry":
            self.retry(who, number, (0.0, DELAY)[number % 2], counts=number % 3 > 0)
        else:
            getattr(self, move)(who, number)

    # Losses

    @precondition(has_jobs)
    @rule(who=WHO, limit=st.sampled_from((1, 1000)), renews=st.booleans())
    def lose(self, who: int, limit: int, renews: bool) -> None:
        """Have a worker's lease run out, and somebody rescue its jobs. It may try to renew its lease."""
        self.world.go(self._lose(self.worker(who), limit, renews=renews))

    async def _lose(self, worker: Session, limit: int, *, renews: bool) -> None:
        world, oracle, db = self.world, self.world.oracle, self.world.db
        lease = worker.lease
        await self._expire_lease(lease)
        if renews and worker.transaction is None:
            renewed = await world.store.renew_lease(worker.connection, lease, TTL)
            exists = await db.fetchval("select exists (select from pgqueue.lease where id = $1)", lease)
            assert renewed == (exists and lease not in oracle.beside), (
                "a lease was renewed while it was rescued"
            )
            if renewed:
                await self._expire_lease(lease)
        keeper = world.sessions["keeper"]
        chosen = (await self._held_under(lease))[:limit]

        async def renew_late() -> None:
            if worker.transaction is None:
                with suppress(asyncpg.LockNotAvailableError):
                    renewed = await world.store.renew_lease(worker.connection, lease, TTL)
                    assert not renewed, "a lease was renewed while it was rescued"

        amid = renew_late if renews else None
        done, rescued = await world.attempt(keeper, rescue(world.store, db, lease, limit, LOSSES, amid))
        if not done or rescued is None:
            return
        assert rescued == len(chosen)
        oracle.lose(lease, chosen)
        world.tally["rescued"] += len(chosen)

    async def _expire_lease(self, lease: UUID) -> None:
        await self.world.db.execute(
            "update pgqueue.lease set expires_at = now() - interval '1 second' where id = $1", lease
        )

    async def _held_under(self, lease: UUID) -> list[UUID]:
        return sorted(job_id for job_id, job in (await self.world.look()).items() if job["lease"] == lease)

    @precondition(has_jobs)
    @rule(who=WHO, limit=st.integers(1, 6), commits=st.booleans())
    def lose_while_claiming(self, who: int, limit: int, commits: bool) -> None:
        """Have a lease run out, and somebody come to rescue, while a claim is not yet committed."""
        self.come_back(who)
        self.attend_to_some()
        worker = self.worker(who)
        if worker.transaction is None:
            self.world.go(self._lose_while_claiming(worker, limit, commits=commits))

    async def _lose_while_claiming(self, worker: Session, limit: int, *, commits: bool) -> None:
        await self.world.start(worker)
        await self._claim(worker, limit, ahead=False)
        await self._lose(worker, 1000, renews=False)
        if worker.transaction is not None:
            await self.world.end(worker, commits=commits)

    @precondition(is_busy)
    @rule(who=WHO)
    def lose_while_ending(self, who: int) -> None:
        """Have somebody who rescues one job wait for one that ends meanwhile: the next one is rescued."""
        self.world.go(self._lose_while_ending(self.believing(who)))

    async def _lose_while_ending(self, worker: Session) -> None:
        world, oracle, lease = self.world, self.world.oracle, worker.lease
        held = await self._held_under(lease)
        if world.is_open or len(held) < PAIR or worker.beliefs.get(held[0]) != lease:
            return
        await world.start(worker)
        await self._write(worker, held[0], self._finish, oracle.finish)
        if worker.transaction is None:
            return
        await self._expire_lease(lease)
        rescuing = asyncio.ensure_future(rescue(world.store, world.db, lease, 1, LOSSES))
        await asyncio.sleep(PATIENCE / 4000)
        await world.end(worker, commits=True)
        # It may have waited in vain.
        with suppress(asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            rescued = await rescuing
            assert rescued == 1, "a rescue passed over the next job"
            oracle.lose(lease, held[1:PAIR])

    @precondition(lambda self: self.world.oracle.beside)
    @rule(who=WHO)
    def come_back(self, who: int) -> None:
        """Have a worker whose lease is lost take another one. It still believes that it runs its jobs."""
        worker = self.worker(who)
        if worker.transaction is None and worker.lease in self.world.oracle.beside:
            self.world.go(self.world.come(worker))

    @precondition(has_jobs)
    @rule(who=WHO, knows=st.booleans())
    def return_unknown(self, who: int, knows: bool) -> None:
        """Return what a lease holds and its worker does not know of: the answer to its claim was lost."""
        worker = self.worker(who)
        if worker.transaction is None:
            self.world.go(self._return_unknown(worker, knows=knows))

    async def _return_unknown(self, worker: Session, *, knows: bool) -> None:
        world, oracle = self.world, self.world.oracle
        known = set(worker.beliefs) | set(worker.ahead) if knows else set()
        held = oracle.held_by(worker.lease, "held", "running") - known
        async with worker.connection.transaction():
            await worker.connection.fetch(
                "select id from pgqueue.lease where id = $1 for update", worker.lease
            )
            returned = await world.store.release_unknown(worker.connection, worker.lease, known)
        assert set(returned) == held
        for job_id in held:
            oracle.release(job_id, noted=False)
            worker.beliefs.pop(job_id, None)
            worker.ahead.pop(job_id, None)

    @precondition(is_busy)
    @rule(who=WHO, number=NUMBERS)
    def crash_of_the_server(self, who: int, number: int) -> None:
        """Forget a claim, as a server does that crashes; its worker takes again what it runs."""
        worker = self.believing(who)
        if (job_id := self._one(worker, number)) and not self.world.is_open:
            self.world.go(self._forget(worker, job_id, goes_on=number % 2 == 0))

    async def _forget(self, worker: Session, job_id: UUID, *, goes_on: bool) -> None:
        world, oracle, lease = self.world, self.world.oracle, worker.beliefs[job_id]
        if not oracle.holds(job_id, lease) or lease != worker.lease:
            return
        job = oracle.jobs[job_id]
        await world.db.execute(
            "with gone as (delete from pgqueue.running where job_id = $1 returning *) "
            "insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses) "
            "select job_id, ready_at, position, lane, attempt - 1, losses from gone",
            job_id,
        )
        underway = Underway(job_id, job.attempt, job.losses, 1.0)
        job.attempt -= 1
        job.wait()
        if goes_on:
            taken = await world.store.take_again(worker.connection, lease, [underway])
            can = lease not in oracle.beside and await world.db.fetchval(
                "select exists (select from pgqueue.lease where id = $1)", lease
            )
            assert taken == ({job_id: "taken"} if can else {})
            if can:
                oracle.claim(job_id, lease, starts=True)
        else:
            del worker.beliefs[job_id]
