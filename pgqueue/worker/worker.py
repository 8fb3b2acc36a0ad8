"""A worker: one claimer, one finisher, one lease and the upkeep, around the attempts that are under way.

Its parts share one record, `WorkerState`, and tell what they have committed to one `Announcer`. They refer
downwards only: the lease keeper and the claimer to the slots, the slots to the finisher.

    claimer ──► slots ──► executor (one attempt) ──► finisher ──► announcer
    lease keeper (a thread of its own), with the watchdog ──► slots
    rounds of chores (promoting, rescuing, cancelling and so on) ──► announcer

All of it but the lease keeper runs on one event loop, each loop of it with a connection of its own.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import chain, repeat
from types import TracebackType
from typing import Self
from uuid import UUID

import anyio

from pgqueue.database.failing import log_fields, statement_of
from pgqueue.database.outages import ANY_REFUSAL
from pgqueue.database.patience import persist
from pgqueue.database.sharing import Sharing
from pgqueue.errors import PgQueueError
from pgqueue.events.kinds import WorkErrorIsolated
from pgqueue.model.ids import new_id
from pgqueue.own_tasks import OwnTask, own_task, owning_tasks, telling, was_asked
from pgqueue.upkeep.announcing import WorkerAnnouncer
from pgqueue.upkeep.retention import Purging
from pgqueue.upkeep.rounds import Rounds, chores_of
from pgqueue.upkeep.state import WorkerState
from pgqueue.upkeep.ticking import Declaring, Ticking
from pgqueue.upkeep.tools import Tools
from pgqueue.worker.attempt import forked
from pgqueue.worker.attempt.attempt import RunningAttempt
from pgqueue.worker.attempt.soft_limit import groups_taught
from pgqueue.worker.claim.claimer import Claimer
from pgqueue.worker.claim.lanes import LaneBook
from pgqueue.worker.claim.queue_slots import SlottedBook
from pgqueue.worker.host import WorkerHost
from pgqueue.worker.lease.blocked_loop import BlockedLoop
from pgqueue.worker.lease.giving_back import give_lease_back
from pgqueue.worker.lease.keeper import Holder, LeaseKeeper
from pgqueue.worker.lease.loop_watchdog import Watchdog
from pgqueue.worker.outcome.attender import Attender
from pgqueue.worker.outcome.dead_letter_hooks import DeadLetterHooks
from pgqueue.worker.outcome.finisher import Finisher
from pgqueue.worker.second_signal import forget_signals, hurried_by_signals
from pgqueue.worker.services.lifespan import Lifespan
from pgqueue.worker.services.progress import ProgressWriter
from pgqueue.worker.services.scope import Scopes
from pgqueue.worker.settings import WorkerSettings
from pgqueue.worker.slots import Slots

MAX_LANE = 2**31 - 1
"""The greatest id of a lane."""

logger = logging.getLogger("pgqueue.worker")

LOOP_PAUSES = (0.2, 1.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds before a loop that failed is started again; the last one repeats."""


class Worker:
    """Runs jobs inside this process, from `async with` to its end.

    Leaving the block stops it: it claims nothing more, attempts may finish within the grace, and the
    remaining jobs return to the queue without counting the attempt. `stop()` begins that early; `release()`
    cuts the grace short.
    """

    recycle: Callable[[], object] | None = None
    """Called in another thread when a handler has blocked the event loop past its hard limit, and the jobs of
    this worker have returned to the queue. None: if the loop ever turns again, the worker goes on under a new
    lease."""

    def __init__(self, host: WorkerHost, settings: WorkerSettings) -> None:
        database, store = host.database, host.store
        self.name = name = settings.name or f"{socket.gethostname()}-{new_id().hex[-8:]}"
        self._host, self._settings = host, settings
        self._state = state = WorkerState()
        self._stop_event, self._release_event = anyio.Event(), anyio.Event()
        self._running: OwnTask | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._watchdog: Watchdog | None = None
        # A connection for each loop. Claims need not be on the disk before their jobs start; outcomes must
        # be.
        sharing = Sharing(database)
        self._links = [sharing.link(durable=durable) for durable in (False, True, True, False, False, False)]
        claim_link, finish_link, upkeep_link, letters_link, purge_link, attend_link = self._links
        ask_link, renew_link = (sharing.link(durable=False, borrows=True) for _ in range(2))
        self._links += [ask_link, renew_link]
        self._lifespan = Lifespan(name, host.open_state, host.middleware)
        self._progress = ProgressWriter(database, store)
        self._letters = DeadLetterHooks(store, letters_link, host.observers, host.on_dead)
        self._attender = Attender(store, attend_link, host.observers)
        book = LaneBook() if settings.shares_slots else SlottedBook(settings.queue_slots, settings.weights)
        self._announcer = WorkerAnnouncer(
            state, host.signals, host.watches, self._letters, self._attender, book.own
        )
        self._attender.announcer = self._announcer
        self._finisher = Finisher(
            store,
            finish_link,
            state,
            self._announcer,
            host.observers,
            worker=name,
            grace=host.unknown_task_grace,
            queues=settings.queues,
        )
        scopes = Scopes(
            database,
            store,
            host.codec,
            settings.result_limit,
            self._progress,
            name,
            host.workflows,
            host.signals,
            self._lifespan,
        )
        self._slots = Slots(host, scopes, self._finisher, state, book.lanes, settings)
        self._claimer = Claimer(host, claim_link, state, self._slots, self._announcer, book, settings)
        self._keeper = LeaseKeeper(
            host,
            self._holder(),
            state,
            self._slots,
            ttl=settings.lease_ttl,
            make_room=sharing.make_room,
            stand_in=renew_link,
        )
        tools = Tools(store, upkeep_link, host.observers, self._announcer, state, name)
        chores = chores_of(
            tools,
            host.registry,
            self._slots,
            self._attender,
            [Ticking(tools, host.ticker), Declaring(tools, host.declare_schedules)],
            host.unknown_task_grace,
            settings.lease_ttl,
        )
        self._rounds = Rounds(chores, state.upkeep, host.observers)
        purging = Purging(store, purge_link, host.retention, ask_link)
        self._retention = Rounds([purging], observers=host.observers)

    # Life

    async def __aenter__(self) -> Self:
        """Start, and wait until the lifespan has begun. Raises WorkerLifespanError."""
        running = self.start()
        if self._lifespan.is_there:
            try:
                await self._first_of(self._lifespan.ready)
            except BaseException:
                self.release()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait((running,))
                raise
            if running.done():
                running.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        await self.wait_stopped()

    def start(self) -> asyncio.Task[None]:
        """Start working, in an asyncio task that `wait_stopped` waits for. Returns that task."""
        self._host.database.check_loop()
        loop = asyncio.get_running_loop()
        forked.prepare(loop)
        forget_signals()
        self._running = own_task(self._run(), name=f"pgqueue worker {self.name}")
        self._running.obeying = partial(self._slots.bystanders.spare, loop, None)
        return self._running

    def stop(self) -> None:
        """Claim nothing more; attempts under way may finish within the grace."""
        self._state.stop()
        self._stop_event.set()

    def release(self) -> None:
        """Stop now: attempts are cancelled; their jobs return to the queue, the attempt does not count."""
        self.stop()
        self._release_event.set()

    def run_twice(self, *, everything: bool) -> None:
        """Execute every job that starts from now on twice; or only if the worker was made to do that."""
        self._slots.run_twice(everything or self._settings.run_twice)

    def retire(self) -> None:
        """Claim nothing more, and stop when the attempts under way have ended, however long they take."""
        self._state.stop()
        self._retiring = own_task(self._stop_when_empty(), name=f"pgqueue worker {self.name} retires")

    async def _stop_when_empty(self) -> None:
        # A claim that is under way may bring jobs.
        await self._claimer.wait_ended()
        await self._slots.wait_empty()
        self.stop()

    @property
    def is_idle(self) -> bool:
        """Whether no handler is running, and every outcome is written."""
        return self._slots.is_idle

    async def wait_ready(self) -> None:
        """Wait until the worker holds a lease and claims."""
        await self._first_of(self._state.ready)

    async def _first_of(self, event: anyio.Event | asyncio.Event) -> None:
        """Wait until *event* is set, or the worker has ended."""
        assert self._running is not None, "the worker is not started"
        happened = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((happened, self._running), return_when=asyncio.FIRST_COMPLETED)
        finally:
            happened.cancel()

    async def wait_stopped(self) -> None:
        """Wait until the worker has stopped. Raises the error that ended it, if there was one."""
        if self._running is None:
            return
        try:
            await asyncio.shield(self._running)
        except asyncio.CancelledError:
            if not self._running.done():
                # The caller is cancelled, not the worker: make sure that no job is left running.
                self.release()
                with anyio.CancelScope(shield=True), anyio.move_on_after(self._settings.cancel_grace + 5):
                    await asyncio.wait((self._running,))
            elif (caller := asyncio.current_task()) is None or not caller.cancelling():
                raise PgQueueError(
                    f"worker {self.name} was cancelled by something else; its jobs returned to the queue"
                ) from None
            raise

    @property
    def running(self) -> int:
        """The number of handlers that are running."""
        return len(self._slots.attempts)

    @property
    def abandoned_threads(self) -> int:
        """The number of threads whose handlers run on although their attempts have ended."""
        return self._slots.executor.abandoned_threads

    @property
    def loop_lag(self) -> float:
        """Event-loop lag: the seconds that the loop took to turn when last asked, or has taken so far."""
        return 0.0 if self._watchdog is None else self._watchdog.lag

    @property
    def lease_age(self) -> float | None:
        """Seconds since the lease was renewed; None: the worker holds no lease."""
        renewed_at = self._keeper.renewed_at
        return None if self._state.lease_id is None or renewed_at is None else time.monotonic() - renewed_at

    @property
    def slots(self) -> int:
        """The number of handlers that can run at once."""
        return self._settings.concurrency

    @property
    def is_alive(self) -> bool:
        """Whether the worker was started and has not ended."""
        return self._running is not None and not self._running.done()

    @property
    def has_stopped(self) -> bool:
        """Whether the worker was stopped and has ended."""
        return self._running is not None and self._running.done() and not self.has_failed

    @property
    def has_failed(self) -> bool:
        """Whether an error ended the worker, or somebody cancelled its task."""
        host = self._running
        return host is not None and host.done() and (host.cancelled() or host.exception() is not None)

    @property
    def is_consuming(self) -> bool:
        """Whether the worker holds a lease, and so claims jobs. Meant for readiness checks."""
        return self.is_alive and self._state.lease_id is not None and not self._state.is_stopping

    async def _run(self) -> None:
        slots = self._slots
        self._watchdog = Watchdog(slots.attempts, observers=self._host.observers, on_overrun=self._evacuate)
        slots.bystanders.begin()
        self._blocked_loop = BlockedLoop(self._host, slots, self._finisher, self._announcer)
        try:
            with telling(slots.bystanders.spare), groups_taught:
                if await self._lifespan.start(self._stop_event, broken=self.release):
                    await self._work(self._watchdog)
        except BaseException as error:
            is_error = isinstance(error, Exception)
            logger.log(
                logging.ERROR if is_error else logging.WARNING,
                "worker %s: stopped because of an error" if is_error else "worker %s: was cancelled",
                self.name,
                exc_info=error if is_error else None,
            )
            with anyio.CancelScope(shield=True):
                await self._give_up()
            raise
        finally:
            slots.release()
            with anyio.CancelScope(shield=True):
                await slots.close()
                try:
                    await self._lifespan.end(self._settings.cancel_grace)
                finally:
                    for link in self._links:
                        await link.close()
                    logger.info("worker %s: stopped", self.name)

    async def _work(self, watchdog: Watchdog) -> None:
        """Run the loops until the worker is stopped, and wind down."""
        async with (
            anyio.create_task_group() as group,
            self._host.signals.listen(self._hear, self._claimer.look),
        ):
            with owning_tasks():
                for doing, run in self._loops(watchdog).items():
                    group.start_soon(self._outlive_errors, doing, run)
            logger.info(
                "worker %s: started on queues %s, concurrency %d",
                self.name,
                ", ".join(map(self._described, self._settings.queues)),
                self._settings.concurrency,
            )
            await self._stop_event.wait()
            with hurried_by_signals(self.release):
                await self._wind_down()
            group.cancel_scope.cancel()

    def _described(self, queue: str) -> str:
        slots = self._settings.queue_slots.get(queue)
        return queue if slots is None else f"{queue} ({slots} slots)"

    async def _wind_down(self) -> None:
        """Let attempts finish within the grace, stop the others, write what is left, give the lease back."""
        settings = self._settings
        with anyio.move_on_after(settings.cancel_grace) as last_claim:
            await self._claimer.wait_ended()
            await persist("returning prefetched jobs", self._claimer.return_prefetched, errors=ANY_REFUSAL)
        await self._end_attempts()
        with anyio.move_on_after(settings.lease_ttl) as flushing:
            await self._finisher.flush()
        if flushing.cancelled_caught:
            logger.error(
                "worker %s: the database is unavailable: %d outcomes were not written; those jobs run again "
                "after the lease expires",
                self.name,
                self._finisher.backlog,
            )
        with anyio.move_on_after(settings.cancel_grace):
            await self._letters.flush()
        with anyio.move_on_after(settings.cancel_grace):
            await self._attender.flush()
        # A claim that is still under way may bring jobs: then the lease expires, and they are rescued.
        if not last_claim.cancelled_caught:
            with suppress(TimeoutError), anyio.fail_after(settings.cancel_grace):
                await persist("giving the lease back", self._claimer.return_lease, errors=ANY_REFUSAL)

    def _loops(self, watchdog: Watchdog) -> dict[str, Callable[[], Awaitable[object]]]:
        """The loops of this worker, by what they do."""
        return {
            "keeping the lease": partial(self._keeper.run, watchdog),
            "finishing": self._finisher.run,
            "attending to workflows": self._attender.run,
            "upkeep": self._rounds.run,
            "retention": self._retention.run,
            "storing progress": self._progress.run,
            "telling of dead letters": self._letters.run,
            "claiming": self._claimer.run,
            "watching limits": self._slots.deadlines.run,
        }

    async def _outlive_errors(self, doing: str, run: Callable[[], Awaitable[object]]) -> None:
        """Run a loop until it ends by itself; start it again after an error, which ends no other."""
        for pause in chain(LOOP_PAUSES, repeat(LOOP_PAUSES[-1])):
            try:
                await run()
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and was_asked():
                    raise
                logger.exception(
                    "worker %s: %s failed; starting it again in %g s, the rest continues",
                    self.name,
                    doing,
                    pause,
                    extra=log_fields(error),
                )
                self._host.observers.emit(
                    WorkErrorIsolated(doing, type(error).__name__, statement=statement_of(error))
                )
                await anyio.sleep(pause)
            else:
                return

    async def _give_up(self) -> None:
        """End what this worker holds when its loops are gone: write outcomes, return the jobs and the lease.

        As far as it can be done while the lease lasts: after that the jobs count as lost.
        """
        self.stop()
        slots, lease_id = self._slots, self._state.lease_id
        slots.release()
        with anyio.move_on_after(min(self._settings.cancel_grace, self._settings.lease_ttl / 3)):
            await slots.wait_empty()
        for attempt in list(slots.attempts):
            slots.abandon(attempt)
        for link in self._links:
            # A loop may have been stopped in the middle of a transaction. The others are kept: it may be that
            # the server lets nobody in any more.
            link.drop_unfinished()
        with anyio.move_on_after(self._settings.lease_ttl / 3):
            async with anyio.create_task_group() as group:
                with owning_tasks():
                    group.start_soon(self._finisher.run)
                await self._finisher.flush()
                group.cancel_scope.cancel()
        with anyio.move_on_after(self._settings.lease_ttl / 3) as patience:
            if lease_id is not None:
                give_back = partial(
                    give_lease_back, self._host.store, self._links[0], lease_id, with_jobs=True
                )
                await persist("giving the lease back", give_back, errors=ANY_REFUSAL)
        if patience.cancelled_caught:
            logger.error(
                "worker %s: the database is unavailable: %d outcomes were not written, and its jobs count as "
                "lost",
                self.name,
                self._finisher.backlog,
            )

    async def _end_attempts(self) -> None:
        """Wait for the attempts within the grace; then stop them, and abandon those that do not stop."""
        slots = self._slots
        async with anyio.create_task_group() as group:
            with owning_tasks():
                group.start_soon(self._cut_short, group.cancel_scope)
            with anyio.move_on_after(self._settings.grace):
                await slots.wait_empty()
            group.cancel_scope.cancel()
        if self.running:
            logger.warning(
                "worker %s: stopping %d attempts; their jobs return to the queue", self.name, self.running
            )
            slots.release()
            with anyio.move_on_after(self._settings.cancel_grace):
                await slots.wait_empty()
        for attempt in list(slots.attempts):
            slots.abandon(attempt)

    async def _cut_short(self, grace: anyio.CancelScope) -> None:
        await self._release_event.wait()
        grace.cancel()

    async def _evacuate(self, attempt: RunningAttempt) -> None:
        """End what this worker holds: *attempt* blocks its loop. Runs in the thread of the lease keeper."""
        await self._blocked_loop.evacuate(
            attempt, self._keeper.link_beside(), within=self._settings.lease_ttl
        )
        if self.recycle is not None:
            self.recycle()
        self._keeper.look()

    def _hear(self, message: str) -> None:
        """Heed a notification. Raises ValueError for one that is malformed."""
        kind, _, rest = message.partition(" ")
        if kind == "ready":
            lane_id = int(rest)
            if not 0 < lane_id <= MAX_LANE:
                raise ValueError(rest)
            self._claimer.hint(lane_id)
        elif kind == "watch":
            self._announcer.hear_watcher()
        elif kind == "attend":
            self._state.notes.hear()
        elif kind == "settings":
            self._state.requests.hear()
        elif kind == "cancel":
            job_id = UUID(rest)
            if any(attempt.claimed.id == job_id for attempt in self._slots.attempts):
                # Only the database says whether it was asked for; look there now.
                self._state.requests.hear()

    def _holder(self) -> Holder:
        settings, registry = self._settings, self._host.registry
        return Holder(
            self.name,
            settings.queues,
            settings.prefetch,
            registry.loss_limits(),
            self._host.version,
            tuple(registry.names),
            settings.concurrency,
        )
