"""A worker: one claimer, one finisher, one lease and the upkeep, around the attempts that are under way."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self
from uuid import UUID

import anyio

from pgqueue.background.notifications import Signals
from pgqueue.background.watching import WATCH_TTL, Watches
from pgqueue.database.patience import persist
from pgqueue.database.pool import Database, Link
from pgqueue.events.kinds import JobMoved, JobsCancelled
from pgqueue.events.observers import Observers
from pgqueue.model.ids import new_id
from pgqueue.model.jobs import JobStatus
from pgqueue.options.retention import Retention
from pgqueue.options.run_time import Settings
from pgqueue.store import Store
from pgqueue.tasks.codec import Codec
from pgqueue.tasks.registry import Registry
from pgqueue.upkeep.retention import Purger
from pgqueue.upkeep.rounds import Maintenance
from pgqueue.worker.attempt.attempt import RunningAttempt, Stop
from pgqueue.worker.claim.claimer import Claimer
from pgqueue.worker.claim.lanes import LaneBook
from pgqueue.worker.lease.blocked_loop import Evacuation
from pgqueue.worker.lease.keeper import Holder, LeaseKeeper
from pgqueue.worker.lease.loop_watchdog import Watchdog
from pgqueue.worker.outcome.dead_letter_hooks import Deaths, Hook
from pgqueue.worker.outcome.finisher import Finisher
from pgqueue.worker.services.progress import ProgressWriter
from pgqueue.worker.services.scope import Scopes
from pgqueue.worker.settings import WorkerSettings
from pgqueue.worker.slots import Slots

logger = logging.getLogger("pgqueue.worker")


class Worker:
    """Runs jobs inside this process, from `async with` to its end.

    Leaving the block stops it: nothing more is claimed, attempts get their grace, the rest go back unspent.
    `stop()` begins that early; `release()` cuts the grace short.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: Store,
        registry: Registry,
        signals: Signals,
        watches: Watches,
        observers: Observers,
        codec: Codec | None,
        rng: random.Random,
        version: str | None,
        unknown_task_grace: float | None,
        on_dead: Sequence[Hook],
        settings: WorkerSettings,
        retention: Retention,
    ) -> None:
        self._database = database
        self._store = store
        self._registry = registry
        self._signals = signals
        self._watches = watches
        self._observers = observers
        self._settings = settings
        self.name = settings.name or f"{socket.gethostname()}-{new_id().hex[-8:]}"
        self._progress = ProgressWriter(database, store)
        self._lease_id: UUID | None = None
        self._run_time: Settings | None = None
        self._is_stopping = False
        self._watched_until = float("-inf")
        self._stop_event = anyio.Event()
        self._release_event = anyio.Event()
        self._ready = anyio.Event()
        self._host: asyncio.Task[None] | None = None
        self._links = [
            Link(database, durable=False),
            Link(database, durable=True),
            Link(database, durable=True),
            Link(database, durable=False),
            Link(database, durable=False),
        ]
        claim_link, finish_link, upkeep_link, deaths_link, purge_link = self._links
        self._deaths = Deaths(store, deaths_link, observers, on_dead)
        self._finisher = Finisher(
            store,
            finish_link,
            worker=self.name,
            queues=settings.queues,
            observers=observers,
            announce=self._announce,
            relieved=self._wake_claimer,
            expect=self._expect,
            died=self._deaths.add,
        )
        book = LaneBook()
        self._slots = Slots(
            worker=self.name,
            settings=settings,
            registry=registry,
            scopes=Scopes(database, store, codec, settings.result_limit, self._progress, self.name),
            finisher=self._finisher,
            observers=observers,
            book=book,
            codec=codec,
            rng=rng,
            lease=lambda: self._lease_id,
            paused=self._paused_tasks,
            freed=self._wake_claimer,
            settle_claim=self._settle_claim,
        )
        poll_interval = settings.poll_interval or (0.1 if database.is_pooled else 1.0)
        self._claimer = Claimer(
            store,
            claim_link,
            registry,
            settings.queues,
            observers=observers,
            poll_interval=poll_interval,
            prefetch=settings.prefetch,
            book=book,
            free=lambda: self._slots.free,
            start=self._slots.start,
            known=lambda: self._slots.job_ids,
        )
        self._maintenance = Maintenance(
            store,
            upkeep_link,
            observers=observers,
            announce=self._announce,
            lease_id=lambda: self._lease_id,
            cancel=self._cancel,
            heed=self._heed,
            died=self._deaths.add,
            known=lambda: registry.names,
            unknown_grace=unknown_task_grace,
        )
        self._purger = Purger(store, purge_link, retention)
        self._keeper = LeaseKeeper(
            database,
            store,
            Holder(
                self.name,
                settings.queues,
                settings.prefetch,
                registry.loss_limits(),
                version,
                tuple(registry.names),
            ),
            ttl=settings.lease_ttl,
            on_taken=self._lease_taken,
            on_lost=self._lease_lost,
            beside=self._watch_loop,
            loop_lag=lambda: self.loop_lag,
        )
        self._watchdog: Watchdog | None = None
        self._evacuation = Evacuation(
            database, store, self._slots.executor, worker=self.name, died=self._died_outside
        )
        self.recycle: Callable[[], object] | None = None
        """Called in another thread once a handler has blocked the event loop past its hard limit, and the
        jobs of this worker are settled. None: if the loop ever turns, it goes on under a new lease."""

    # Life

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        await self.wait_stopped()

    def start(self) -> None:
        """Start working, in an asyncio task that `wait_stopped` waits for."""
        self._host = asyncio.get_running_loop().create_task(self._run(), name=f"pgqueue worker {self.name}")

    def stop(self) -> None:
        """Claim nothing more; attempts under way may finish within the grace."""
        self._is_stopping = True
        self._stop_event.set()

    def release(self) -> None:
        """Stop now: attempts under way are cancelled and their jobs go back unspent."""
        self.stop()
        self._release_event.set()

    async def wait_ready(self) -> None:
        """Wait until the worker holds a lease and claims."""
        assert self._host is not None, "the worker is not started"
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait((ready, self._host), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()

    async def wait_stopped(self) -> None:
        """Wait until the worker has stopped. Raises what ended it, if it was not a stop."""
        if self._host is None:
            return
        try:
            await asyncio.shield(self._host)
        except asyncio.CancelledError:
            if not self._host.done():
                # Our caller is cancelled, not the worker: see to it that no job is left running.
                self.release()
                with anyio.CancelScope(shield=True), anyio.move_on_after(self._settings.cancel_grace + 5):
                    await asyncio.wait((self._host,))
            raise

    @property
    def running(self) -> int:
        """How many handlers run now."""
        return len(self._slots.attempts)

    @property
    def loop_lag(self) -> float:
        """Seconds that the event loop took to turn when it was last asked, or has taken so far."""
        return 0.0 if self._watchdog is None else self._watchdog.lag

    @property
    def lease_age(self) -> float | None:
        """Seconds since the lease was renewed; None: the worker holds none."""
        renewed_at = self._keeper.renewed_at
        return None if self._lease_id is None or renewed_at is None else time.monotonic() - renewed_at

    @property
    def slots(self) -> int:
        """How many handlers can run at once."""
        return self._settings.concurrency

    @property
    def is_alive(self) -> bool:
        """Whether the worker was started and has not ended."""
        return self._host is not None and not self._host.done()

    @property
    def has_stopped(self) -> bool:
        """Whether the worker has ended as it was told to."""
        return self._host is not None and self._host.done() and not self.has_failed

    @property
    def has_failed(self) -> bool:
        """Whether the worker was ended by an error."""
        host = self._host
        return host is not None and host.done() and not host.cancelled() and host.exception() is not None

    @property
    def is_consuming(self) -> bool:
        """Whether the worker holds a lease, and so claims: what a readiness check wants to know."""
        return self.is_alive and self._lease_id is not None and not self._is_stopping

    async def _run(self) -> None:
        self._watchdog = Watchdog(self._slots.attempts, observers=self._observers, on_overrun=self._evacuate)
        try:
            async with (
                anyio.create_task_group() as group,
                self._signals.listen(self._hear, self._claimer.look),
            ):
                group.start_soon(self._keeper.run)
                group.start_soon(self._finisher.run)
                group.start_soon(self._maintenance.run)
                group.start_soon(self._purger.run)
                group.start_soon(self._progress.run)
                group.start_soon(self._deaths.run)
                group.start_soon(self._claimer.run)
                group.start_soon(self._slots.deadlines.run)
                logger.info(
                    "worker %s: started on queues %s, concurrency %d",
                    self.name,
                    ", ".join(self._settings.queues),
                    self._settings.concurrency,
                )
                await self._stop_event.wait()
                await self._wind_down()
                group.cancel_scope.cancel()
        except Exception:
            logger.exception("worker %s: ended by an error", self.name)
            raise
        finally:
            self._slots.release()
            with anyio.CancelScope(shield=True):
                await self._slots.close()
                for link in self._links:
                    await link.close()
            logger.info("worker %s: stopped", self.name)

    async def _wind_down(self) -> None:
        """Let attempts finish within the grace, release the rest, write what is left, give the lease back."""
        self._claimer.stop()
        with anyio.move_on_after(self._settings.cancel_grace) as last_claim:
            await self._claimer.wait_ended()
            if self._claimer.prefetched:
                await persist("giving prefetched jobs back", self._give_prefetched_back)
        async with anyio.create_task_group() as group:
            group.start_soon(self._cut_short, group.cancel_scope)
            with anyio.move_on_after(self._settings.grace):
                await self._slots.wait_empty()
            group.cancel_scope.cancel()
        if self.running:
            logger.warning("worker %s: %d attempts are cancelled and go back", self.name, self.running)
            self._slots.release()
            with anyio.move_on_after(self._settings.cancel_grace):
                await self._slots.wait_empty()
        for attempt in list(self._slots.attempts):
            self._slots.give_up(attempt)
        with anyio.move_on_after(self._settings.lease_ttl) as flushing:
            await self._finisher.flush()
        if flushing.cancelled_caught:
            logger.error(
                "worker %s: the database stays away: %d outcomes are not written, and their jobs run again "
                "once the lease has run out",
                self.name,
                self._finisher.backlog,
            )
        with anyio.move_on_after(self._settings.cancel_grace):
            await self._deaths.flush()
        if self._lease_id is not None and not last_claim.cancelled_caught:
            with suppress(TimeoutError), anyio.fail_after(self._settings.cancel_grace):
                await persist("giving the lease back", self._give_lease_back)

    async def _cut_short(self, grace: anyio.CancelScope) -> None:
        await self._release_event.wait()
        grace.cancel()

    # Both on the claimer's connection: it has ended, while the finisher may be at work.

    async def _give_lease_back(self) -> None:
        lease_id = self._lease_id
        assert lease_id is not None
        async with self._links[0].use() as connection, connection.transaction():
            # Nothing should be left; what is would wait for the lease to run out, and count as lost.
            await self._store.lock_lease(connection, lease_id)
            await self._store.release_unknown(connection, lease_id, [])
            await self._store.delete_lease(connection, lease_id)

    async def _give_prefetched_back(self) -> None:
        if self._lease_id is None:
            return
        async with self._links[0].use() as connection:
            lanes = await self._store.release(connection, self._lease_id, self.name, self._claimer.prefetched)
            cancelled = [job_id for job_id, lane in lanes.items() if lane is None]
            ended = await self._store.read_jobs(connection, cancelled) if cancelled else {}
        self._announce(finished=cancelled, lanes={lane for lane in lanes.values() if lane is not None})
        for job in ended.values():
            moved = JobMoved(job.id, job.task, job.queue, JobStatus.PENDING, job.status, job.attempt)
            self._observers.emit(JobsCancelled([moved], job.reason))

    # The lease

    def _lease_taken(self, lease_id: UUID) -> None:
        self._lease_id = lease_id
        if self._run_time is not None:
            self._begin_claiming(lease_id)

    def _heed(self, settings: Settings) -> None:
        """Work as operators have it."""
        if settings == self._run_time:
            return
        for task in sorted(settings.unreadable):
            logger.error("the options that task %r was configured with cannot be read: passed over", task)
        is_first, self._run_time = self._run_time is None, settings
        self._registry.set_at_run_time(settings.options)
        self._claimer.book.heed(settings)
        if not is_first:
            self._claimer.look()
        elif self._lease_id is not None:
            self._begin_claiming(self._lease_id)

    def _begin_claiming(self, lease_id: UUID) -> None:
        # Not before the settings are known: what is paused would start.
        self._claimer.use_lease(lease_id)
        self._claimer.look()
        self._ready.set()

    def _lease_lost(self, lease_id: UUID) -> None:
        self._lease_id = None
        self._claimer.use_lease(None)
        self._slots.stop(Stop.RELEASE, lease_id=lease_id)

    # The event loop. Both run in the keeper's thread.

    async def _watch_loop(self) -> None:
        assert self._watchdog is not None
        await self._watchdog.run()

    def _died_outside(self, job_ids: Collection[UUID]) -> None:
        assert self._host is not None
        # Told of if the loop turns again.
        with suppress(RuntimeError):
            self._host.get_loop().call_soon_threadsafe(self._deaths.add, job_ids)

    async def _evacuate(self, attempt: RunningAttempt) -> None:
        """Settle what this worker holds: *attempt* blocks the loop, and is past its hard limit."""
        logger.error(
            "job %s (%s), attempt %d: blocks the event loop past its hard limit: timed out; the other jobs "
            "of worker %s go back",
            attempt.claimed.id,
            attempt.claimed.task,
            attempt.claimed.attempt,
            self.name,
        )
        try:
            # Copies: they are the blocked loop's.
            attempts, pending = list(self._slots.attempts), self._finisher.pending
            # No longer than the lease can last: after it, peers settle what is left.
            async with asyncio.timeout(self._settings.lease_ttl):
                await self._evacuation.run(attempt, attempts, pending)
        except TimeoutError:
            logger.error("worker %s: the database stays away: its jobs count as lost", self.name)
        if self.recycle is not None:
            self.recycle()
        self._keeper.look()

    # Attempts

    def _wake_claimer(self) -> None:
        # Also when outcomes were written: those may hold it back, with no attempt left to wake it.
        self._claimer.wake()

    async def _settle_claim(self, attempt: RunningAttempt) -> bool:
        async def send() -> bool:
            async with self._database.acquire() as connection:
                return await self._store.settle_claim(connection, attempt.claimed.id, attempt.lease_id)

        return await persist(f"job {attempt.claimed.id}: settling its claim", send)

    def _paused_tasks(self) -> frozenset[str]:
        return self._run_time.paused_tasks if self._run_time is not None else frozenset()

    def _expect(self, delay: float) -> None:
        self._maintenance.expect(delay)

    # Messages

    def _hear(self, message: str) -> None:
        kind, _, rest = message.partition(" ")
        if kind == "ready":
            self._claimer.hint(int(rest))
        elif kind == "watch":
            self._watched_until = time.monotonic() + WATCH_TTL
        elif kind == "settings":
            self._maintenance.wake()
        elif kind == "cancel":
            job_id = UUID(rest)
            if any(attempt.claimed.id == job_id for attempt in self._slots.attempts):
                # Only the database says whether it was asked for; look there now.
                self._maintenance.wake()

    def _cancel(self, job_ids: Iterable[UUID]) -> None:
        self._slots.stop(Stop.CANCEL, job_ids=job_ids)

    def _announce(self, *, finished: Collection[UUID], lanes: Collection[int]) -> None:
        for lane_id in lanes:
            self._signals.publish(f"ready {lane_id}")
        if finished and self._watches.is_watching:
            self._watches.hint(finished)
        if finished and time.monotonic() < self._watched_until:
            self._signals.publish_finished(finished)
