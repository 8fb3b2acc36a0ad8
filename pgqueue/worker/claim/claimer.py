"""Claims jobs for the free slots of a worker, across all its lanes, in one statement at a time.

A claim asks for exactly the free slots, in all lanes that are believed to have jobs. What is remembered of
lanes is a hint, and the sweep corrects it: notifications are hints as well, and polling is the promise.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from uuid import UUID

import anyio

from pgqueue.database.failing import log_fields, statement_of
from pgqueue.database.link import Link
from pgqueue.database.outages import is_away, told
from pgqueue.database.patience import Reminder, persist
from pgqueue.events.kinds import BatchSent, WorkErrorIsolated
from pgqueue.options.run_time import Settings
from pgqueue.own_tasks import was_asked
from pgqueue.store import Claimed
from pgqueue.tasks.middleware import Middleware, around_claim, overriding
from pgqueue.upkeep.announcing import Announcer
from pgqueue.upkeep.broken_rows import BrokenRows
from pgqueue.upkeep.state import WorkerState
from pgqueue.worker.claim.hints import SWEEP_GAP, UnknownLanes
from pgqueue.worker.claim.lanes import PAGE, LaneBook
from pgqueue.worker.claim.refilling import Refilling
from pgqueue.worker.claim.returning import Held, Returns
from pgqueue.worker.claim.single_claims import SingleClaims
from pgqueue.worker.host import WorkerHost
from pgqueue.worker.settings import WorkerSettings
from pgqueue.worker.slots import Slots

logger = logging.getLogger("pgqueue.worker")

_by_position = attrgetter("position")

SWEEP_INTERVAL = 1.0
"""Seconds between two sweeps of a busy worker."""
SWEEP_SHARE = 20
"""A sweep is not repeated for this many times its own length: a held snapshot's dead rows slow it down."""
FAILURE_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds until a round that failed is tried again; the last one repeats."""


class Claimer:
    """The one loop of a worker that claims."""

    def __init__(
        self,
        host: WorkerHost,
        link: Link,
        state: WorkerState,
        slots: Slots,
        announcer: Announcer,
        book: LaneBook,
        settings: WorkerSettings,
    ) -> None:
        self._store = host.store
        self._link = link
        self._state = state
        self._slots = slots
        self._observers = host.observers
        self._registry = host.registry
        self._queues = settings.queues
        self._prefetch_limit = settings.prefetch
        self._is_pooled = host.database.is_pooled
        # Behind a pooler no notifications come.
        self._poll_interval = settings.poll_interval or (0.1 if self._is_pooled else 1.0)
        self._lease_id: UUID | None = None
        """The lease that it claims under."""
        self._latest: UUID | None = None
        """... or has claimed under before it had none."""
        self._heeded: Settings | None = None
        """The settings that it heeds."""
        self._ended = asyncio.Event()
        self._held = held = Held()
        self._swept_at = float("-inf")
        self._swept: list[int] = []
        """The lanes that the last sweep looked at."""
        self._must_sweep = True
        self._may_take_over = False
        """Whether other workers may hold prefetched jobs: a sweep asks, and goes on while there are some."""
        self._sweep_seconds = 0.0
        self._has_claimed_since_sweep = False
        self._unknown = UnknownLanes(self.look)
        self._returns = Returns(
            host.database, host.store, link, slots, held, announcer, host.observers, self.look
        )
        self._broken = BrokenRows("claiming", host.store, announcer, host.observers, worker=slots.worker)
        self._singly = SingleClaims(host.store, link, self._broken, self._returns, self.look)
        self._refilling = Refilling(host.store, link, announcer, host.observers)
        self._failures = 0
        self._reminder = Reminder()
        claiming = overriding(host.middleware, "claim")
        # Decided once: without middleware, no round pays for the question.
        self._fill = partial(self._fill_inside, claiming) if claiming else self._do_round
        self.book = book

    @property
    def prefetched(self) -> Sequence[UUID]:
        """Jobs that are claimed and not started."""
        return self._held.prefetched

    def hint(self, lane_id: int) -> None:
        """Look again: a lane may have jobs."""
        if self.book.knows(lane_id):
            self.book.wake(lane_id)
            self._state.claiming.set()
        else:
            self._unknown.hint(lane_id)

    def look(self) -> None:
        """Sweep at once: there may be more than was announced."""
        self._must_sweep = True
        self._state.claiming.set()

    def stop(self) -> None:
        """Claim nothing more."""
        self._state.stop()

    async def run(self) -> None:
        """Claim until stopped."""
        while not self._state.is_stopping:
            # Cleared before looking: what is announced during a claim is not slept through.
            self._state.claiming.clear()
            pause = await self._try_round()
            if pause > 0:
                with anyio.move_on_after(pause):
                    await self._state.claiming.wait()
        self._ended.set()

    async def _try_round(self) -> float:
        """Do one round; return the seconds to sleep. An error is logged, and puts the next round off."""
        try:
            pause = await persist("claiming", self._round)
        except Exception as error:
            self._failures += 1
            pause = FAILURE_PAUSES[min(self._failures, len(FAILURE_PAUSES)) - 1]
            logger.log(
                self._reminder.level(logging.ERROR),
                "claiming failed (%s); trying again in %g s, running jobs continue",
                told(error),
                pause,
                extra=log_fields(error),
                exc_info=error if self._failures == 1 else None,
            )
            self._observers.emit(
                WorkErrorIsolated("claiming", type(error).__name__, statement=statement_of(error))
            )
            await self._rest(pause)
            return 0.0
        self._failures = 0
        return pause

    async def _rest(self, seconds: float) -> None:
        """Wait, whatever is announced meanwhile: an error would come again as often. Only a stop ends it."""
        until = time.monotonic() + seconds
        while not self._state.is_stopping and (left := until - time.monotonic()) > 0:
            self._state.claiming.clear()
            with anyio.move_on_after(left):
                await self._state.claiming.wait()

    async def wait_ended(self) -> None:
        """Wait until a claim that was under way when it was stopped has brought its jobs."""
        await self._ended.wait()

    async def return_prefetched(self) -> None:
        """Return prefetched jobs to the queue. Only when `run` has ended, as this uses its connection."""
        lease_id = self._state.lease_id
        if lease_id is not None and lease_id == self._lease_id:
            await self._returns.return_held(lease_id)

    async def return_lease(self) -> None:
        """Give the lease back when nothing is left under it. Only when `run` has ended: see above."""
        if self._state.lease_id is not None:
            await self._returns.return_lease(self._state.lease_id)

    def _heed_state(self) -> UUID | None:
        """Adopt the lease and the settings as they are now; return the lease to claim under, if any."""
        settings, lease_id = self._state.settings, self._state.lease_id
        if settings is None:
            # Not before the settings are known: what is paused would start.
            return None
        if settings is not self._heeded:
            self._heeded = settings
            self.book.heed(settings)
            self._must_sweep = True
        if lease_id != self._lease_id:
            self._lease_id = lease_id
            self._held.forget()
            self._returns.forget()
            if lease_id is not None and lease_id == self._latest:
                # It was renewed late, and holds what was forgotten when it seemed lost.
                self._returns.doubt()
            self._latest = lease_id or self._latest
            self._must_sweep = True
        if lease_id is not None:
            self._state.ready.set()
        return lease_id

    def _sweep_in(self) -> float:
        """Return the seconds until the lanes are to be swept."""
        if self._must_sweep:
            return 0.0
        if self.book.has_active and not self.book.after:
            interval = SWEEP_INTERVAL
        elif self._has_claimed_since_sweep or self.book.after:
            # They look empty, from positions that are only remembered: make sure before a long sleep.
            # Or there are more to look at.
            interval = SWEEP_GAP
        else:
            interval = self._poll_interval
        return max(interval, SWEEP_SHARE * self._sweep_seconds) - (time.monotonic() - self._swept_at)

    async def _round(self) -> float:
        """Sweep if it is time, then fill the free slots; return the seconds to sleep unless woken."""
        lease_id, held = self._heed_state(), self._held
        self.book.count(self._slots.attempts)
        # Asked once. Slots that are freed from here on wake the loop for another round.
        free = self._slots.free
        if (
            lease_id is None
            or self._state.is_stopping
            or (
                free <= 0
                and len(held.prefetched) >= self._prefetch_limit
                and not held.suspects.are_there
                and not self._returns.is_unsure
            )
        ):
            return math.inf
        try:
            return await self._fill(lease_id, free)
        except BaseException:
            self._must_sweep = True
            self._returns.doubt()
            raise

    async def _fill_inside(self, middleware: Sequence[Middleware], lease_id: UUID, free: int) -> float:
        """Do a round inside *middleware*, for as many slots as it lets it."""
        pauses: list[float] = []
        errors: list[BaseException] = []

        async def claim(most: int | None = None) -> None:
            most = free if most is None else min(most, free)
            if pauses or errors or most <= 0:
                # Not twice in one round: slots that are free now are those of the next one.
                return
            try:
                pauses.append(await self._do_round(lease_id, most))
            except BaseException as error:
                errors.append(error)
                raise

        try:
            await around_claim(middleware, free, claim)
        except BaseException as error:
            if any(error is each for each in errors) or (
                isinstance(error, asyncio.CancelledError) and was_asked()
            ):
                raise
            logger.exception("middleware raised an error in claim; ignoring it")
            if not pauses:
                await claim()
        if errors:
            # The middleware took it for one of its own.
            raise errors[0]
        return pauses[0] if pauses else self._poll_interval

    async def _do_round(self, lease_id: UUID, free: int) -> float:
        # Each step lends itself the connection: behind a pooler that is a transaction, and jobs must not
        # start before the one that claims them is committed.
        held = self._held
        await self._returns.resolve_doubt(lease_id)
        if held.suspects.are_there and await self._run_apart(lease_id):
            return self._returns.doubt_in
        if self._sweep_in() <= 0:
            await self._sweep()
            self._may_take_over = True
        if self._may_take_over and free > 0 and not self.book.may_claim:
            await self._take_over(lease_id, free)
        if held.prefetched and free > 0:
            free -= await self._start_prefetched(lease_id, free)
        if self.book.may_claim and free > 0:
            free -= await self._claim(lease_id, free)
        if self._prefetch_limit and self.book.has_active:
            await self._prefetch(lease_id)
        if free > 0 and self.book.has_fair and not self.book.may_claim:
            for lane_id in await self._refilling.ask(self.book.fair_ids, free):
                self.book.wake(lane_id)
        is_more = held.suspects.are_there or self.book.may_claim or (held.prefetched and free > 0)
        return 0.0 if is_more else max(0.0, self._sweep_in())

    async def _sweep(self) -> None:
        # Cleared before looking: a look that is asked for during this sweep is another one.
        self._must_sweep = False
        async with self._link.use() as connection:
            # Without the time to open the connection, which has nothing to do with sweeps.
            started_at = time.monotonic()
            page = await self._store.find_lanes(
                connection, self._queues, self._registry.names, self.book.after, PAGE
            )
            self._swept = self.book.learn_page(page)
            self.book.swept(await self._store.sweep(connection, self._swept), self._swept)
            self._unknown.forget(self._swept)
        self._refilling.is_wanted = True
        self._swept_at = time.monotonic()
        self._sweep_seconds = self._swept_at - started_at
        self._has_claimed_since_sweep = False

    async def _claim(self, lease_id: UUID, limit: int) -> int:
        """Claim up to *limit* ready jobs and start them; return their number."""
        if self._singly.are_needed:
            return await self._claim_singly(lease_id, limit)
        try:
            async with self._link.use() as connection:
                if self._returns.is_unsure:
                    # The connection is new: among what is pending may be what runs here.
                    return 0
                # Not earlier: a walk that claims nothing once took a lane its turn.
                walk = self.book.walk()
                most = self.book.limit(limit, walk)
                started_at = time.monotonic()
                jobs = await self._store.claim(connection, lease_id, most, walk)
        except Exception as error:
            if is_away(error):
                raise
            # One of the jobs, perhaps. If it was read back that failed, they are claimed.
            logger.warning(
                "a claim failed (%s); claiming job by job",
                told(error),
                extra=log_fields(error),
            )
            await self._returns.return_unknown(lease_id)
            return await self._claim_singly(lease_id, limit)
        self._tell_sent(len(jobs), started_at)
        self._has_claimed_since_sweep = self._refilling.is_wanted = True
        self.book.claimed(walk, [(job.lane, job.position) for job in jobs], limit=most)
        return self._start(lease_id, jobs)

    async def _claim_singly(self, lease_id: UUID, limit: int) -> int:
        """Claim as `_claim` does, job by job; set aside those that cannot be claimed."""
        walk, claimed = self.book.walk(), list[tuple[int, int]]()
        limit = self.book.limit(limit, walk)
        async for job in self._singly.claim(lease_id, limit, walk):
            self._start(lease_id, [job])
            claimed.append((job.lane, job.position))
        if claimed:
            self._has_claimed_since_sweep = True
        self.book.claimed(walk, claimed, limit=limit)
        return len(claimed)

    async def _prefetch(self, lease_id: UUID) -> None:
        held = self._held
        limit = self._prefetch_limit - len(held.prefetched)
        if limit <= 0 or self._singly.are_needed or held.suspects.are_there:
            return
        async with self._link.use() as connection:
            if self._returns.is_unsure:
                return
            walk = self.book.walk()
            started_at = time.monotonic()
            jobs = await self._store.prefetch(connection, lease_id, limit, walk)
        self._tell_sent(len(jobs), started_at)
        self.book.claimed(walk, [(lane, position) for _, lane, position, _ in jobs], limit=limit)
        held.take(self.book.in_order(jobs))

    def _tell_sent(self, size: int, started_at: float) -> None:
        if self._observers.want(BatchSent):
            self._observers.emit(BatchSent("claim", size, time.monotonic() - started_at))

    async def _take_over(self, lease_id: UUID, limit: int) -> None:
        """Take over what other workers have prefetched: there is nothing else to do."""
        # As many as were asked for: there may be more. One slot once took one of them with each sweep.
        is_more = False
        for lane_ids, of_group in self.book.groups(self._swept, limit):
            most = min(of_group, limit)
            if most <= 0:
                is_more = True
                break
            async with self._link.use() as connection:
                taken = await self._store.take_over_prefetched(connection, lease_id, most, lane_ids)
            is_more = is_more or len(taken) == most
            self.book.take([lane_id for _, lane_id, _, _ in taken])
            self._held.take(self.book.in_order(taken))
            limit -= len(taken)
        self._may_take_over = is_more

    async def _start_prefetched(self, lease_id: UUID, count: int) -> int:
        """Start up to *count* prefetched jobs; return their number."""
        ids = self._held.pop_prefetched(count)
        # Those that are not returned were taken over by another worker meanwhile.
        try:
            async with self._link.use() as connection:
                jobs = await self._store.start(connection, lease_id, ids)
        except Exception as error:
            if is_away(error):
                raise
            return sum([self._start(lease_id, [job]) async for job in self._singly.start(lease_id, ids)])
        return self._start(lease_id, jobs)

    async def _run_apart(self, lease_id: UUID) -> bool:
        """See to the suspects; return whether the worker has to wait for the end of what runs."""
        suspects, slots = self._held.suspects, self._slots
        if suspects.claimed:
            ids = [job.id for job in suspects.claimed]
            suspects.claimed = []
            async with self._link.use() as connection:
                held = await self._store.hold_suspects(connection, lease_id, ids)
            suspects.waiting += [job_id for job_id in ids if job_id in held]
        if not slots.is_idle:
            return True
        suspects.is_running = False
        while suspects.waiting and not suspects.is_running:
            # Nothing comes where another worker has taken it over.
            async for job in self._singly.start(lease_id, [suspects.waiting.pop(0)]):
                suspects.is_running = True
                slots.start(lease_id, [job])
        return suspects.is_running

    def _start(self, lease_id: UUID, jobs: list[Claimed]) -> int:
        if jobs:
            if self._is_pooled:
                # A pooler keeps its clients' connections while the server is restarted.
                jobs = self._slots.take_claims(lease_id, jobs)
            jobs.sort(key=_by_position)
            self._slots.start(lease_id, self._held.suspects.sort_out(jobs))
        return len(jobs)
