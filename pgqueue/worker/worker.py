"""A worker: one claimer, one finisher, one lease and the upkeep, around the attempts that are under way."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import anyio

from pgqueue.database import Database, Link
from pgqueue.errors import ConfigurationError, InvalidOptionError
from pgqueue.events import AttemptsAbandoned, JobsClaimed, JobsStarted, JobStarted, Observers
from pgqueue.ids import new_id
from pgqueue.jobs import JobError, JobStatus
from pgqueue.options import restore_options
from pgqueue.outcomes import Ended, Outcome, Released, Succeeded, Unknown
from pgqueue.registry import Codec, Registry
from pgqueue.results import WATCH_TTL, Results
from pgqueue.retention import Retention
from pgqueue.settings import Settings
from pgqueue.signals import Signals
from pgqueue.store import Claimed, Store
from pgqueue.worker.attempts import Attempt, Stop
from pgqueue.worker.claimer import Claimer
from pgqueue.worker.deadlines import Deadlines
from pgqueue.worker.deaths import Deaths, Hook
from pgqueue.worker.evacuation import Evacuation
from pgqueue.worker.executor import Executor
from pgqueue.worker.finisher import Finisher
from pgqueue.worker.importing import check_importable
from pgqueue.worker.lease import Holder, LeaseKeeper
from pgqueue.worker.maintenance import Maintenance
from pgqueue.worker.persistence import persist
from pgqueue.worker.processes import ChildProcesses
from pgqueue.worker.progress import ProgressWriter
from pgqueue.worker.purger import Purger
from pgqueue.worker.scope import JobScope, Scopes
from pgqueue.worker.twice import judge
from pgqueue.worker.watchdog import Watchdog

logger = logging.getLogger("pgqueue.worker")

FINISHED_IDS = 200
"""Job ids in one notification: its payload ends at 8,000 bytes."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker works. Times are in seconds."""

    queues: tuple[str, ...]
    concurrency: int = 10
    """Handlers that run at once."""
    prefetch: int = 0
    """Jobs leased beyond the free slots."""
    poll_interval: float | None = None
    """The longest sleep before looking for jobs unasked. None: 1 s, and 0.1 s where no notifications come."""
    lease_ttl: float = 15.0
    """For how long a lease holds unrenewed: a host that dies is noticed after it."""
    grace: float = 30.0
    """For how long attempts may go on after a stop."""
    cancel_grace: float = 5.0
    """For how long a cancelled handler may clean up."""
    result_limit: int = 1024 * 1024
    """Bytes of a result as JSON."""
    name: str | None = None
    run_twice: bool = False
    """Execute every job twice, to test that it may be: see pgqueue.testing."""

    def __post_init__(self) -> None:
        """Raise ConfigurationError if these settings cannot work."""
        if not self.queues or not all(isinstance(queue, str) and queue for queue in self.queues):
            raise ConfigurationError(f"worker: queues is {self.queues!r}: name one queue at least")
        if self.concurrency < 1:
            raise ConfigurationError(f"worker: concurrency is {self.concurrency}: give 1 or more")
        if self.prefetch < 0:
            raise ConfigurationError(f"worker: prefetch is {self.prefetch}: give 0 or more")
        if self.poll_interval is not None and not 0 < self.poll_interval < float("inf"):
            raise ConfigurationError(
                f"worker: poll_interval is {self.poll_interval}: give more than 0 seconds"
            )
        if not 1 <= self.lease_ttl < float("inf"):
            raise ConfigurationError(f"worker: lease_ttl is {self.lease_ttl}: give 1 second or more")
        if not (self.grace >= 0 and self.cancel_grace >= 0):
            raise ConfigurationError("worker: grace and cancel_grace cannot be negative")


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
        results: Results,
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
        self._results = results
        self._observers = observers
        self._settings = settings
        self.name = settings.name or f"{socket.gethostname()}-{new_id().hex[-8:]}"
        self._attempts: set[Attempt] = set()
        self._deadlines = Deadlines(self._attempts, grace=settings.cancel_grace, give_up=self._give_up)
        self._executor = Executor(
            codec=codec,
            result_limit=settings.result_limit,
            threads=settings.concurrency,
            rng=rng,
            watch=self._deadlines.watch,
            run_isolated=self._run_isolated,
        )
        for definition in registry.definitions:
            if definition.is_isolated:
                check_importable(definition, registry)
        self._children = ChildProcesses(grace=settings.cancel_grace)
        self._progress = ProgressWriter(database, store)
        self._scopes = Scopes(database, store, codec, settings.result_limit, self._progress, self.name)
        # Decided once: no job pays for the question.
        self._carry_out = self._execute_twice if settings.run_twice else self._execute
        self._codec = codec
        self._unknown_tasks: set[str] = set()
        self._lease_id: UUID | None = None
        self._run_time: Settings | None = None
        self._is_stopping = False
        self._watched_until = float("-inf")
        self._stop_event = anyio.Event()
        self._release_event = anyio.Event()
        self._attempt_ended = anyio.Event()
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
            observers=observers,
            announce=self._announce,
            relieved=self._relieved,
            expect=self._expect,
            died=self._deaths.add,
        )
        poll_interval = settings.poll_interval or (0.1 if database.is_pooled else 1.0)
        self._claimer = Claimer(
            store,
            claim_link,
            registry,
            settings.queues,
            poll_interval=poll_interval,
            prefetch=settings.prefetch,
            free=self._free,
            start=self._start,
            known=self._known,
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
        )
        self._watchdog: Watchdog | None = None
        self._evacuation = Evacuation(
            database, store, self._executor, worker=self.name, died=self._died_outside
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
        return len(self._attempts)

    @property
    def loop_lag(self) -> float:
        """Seconds that the event loop took to turn when it was last asked, or has taken so far."""
        return 0.0 if self._watchdog is None else self._watchdog.lag

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
        self._watchdog = Watchdog(self._attempts, on_overrun=self._evacuate)
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
                group.start_soon(self._deadlines.run)
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
            for attempt in list(self._attempts):
                attempt.stop(Stop.RELEASE)
            with anyio.CancelScope(shield=True):
                await self._children.close()
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
                await self._attempts_ended()
            group.cancel_scope.cancel()
        if self._attempts:
            logger.warning("worker %s: %d attempts are cancelled and go back", self.name, len(self._attempts))
            for attempt in list(self._attempts):
                attempt.stop(Stop.RELEASE)
            with anyio.move_on_after(self._settings.cancel_grace):
                await self._attempts_ended()
        for attempt in list(self._attempts):
            self._give_up(attempt)
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

    async def _attempts_ended(self) -> None:
        while self._attempts:
            self._attempt_ended = anyio.Event()
            await self._attempt_ended.wait()

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
            moved = await self._store.release(connection, self._lease_id, self.name, self._claimer.prefetched)
        self._announce(finished=(), lanes=set(moved.values()))

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
        for attempt in list(self._attempts):
            if attempt.lease_id == lease_id:
                self._deadlines.stop(attempt, Stop.RELEASE)

    # The event loop. Both run in the keeper's thread.

    async def _watch_loop(self) -> None:
        assert self._watchdog is not None
        await self._watchdog.run()

    def _died_outside(self, job_ids: Collection[UUID]) -> None:
        assert self._host is not None
        # Told of if the loop turns again.
        with suppress(RuntimeError):
            self._host.get_loop().call_soon_threadsafe(self._deaths.add, job_ids)

    async def _evacuate(self, attempt: Attempt) -> None:
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
            attempts, pending = list(self._attempts), self._finisher.pending
            # No longer than the lease can last: after it, peers settle what is left.
            async with asyncio.timeout(self._settings.lease_ttl):
                await self._evacuation.run(attempt, attempts, pending)
        except TimeoutError:
            logger.error("worker %s: the database stays away: its jobs count as lost", self.name)
        if self.recycle is not None:
            self.recycle()
        self._keeper.look()

    # Attempts

    def _free(self) -> int:
        # Outcomes that cannot be written are held back at the source.
        if self._finisher.backlog > 10 * self._settings.concurrency:
            return 0
        return self._settings.concurrency - len(self._attempts)

    def _relieved(self) -> None:
        # The claimer may have been held back by the backlog, with no attempt left to wake it.
        self._claimer.wake()

    def _expect(self, delay: float) -> None:
        self._maintenance.expect(delay)

    def _known(self) -> Iterable[UUID]:
        return [*(attempt.claimed.id for attempt in self._attempts), *self._finisher.job_ids]

    def _start(self, lease_id: UUID, jobs: Sequence[Claimed]) -> None:
        """Start claimed jobs. What need not run gets its outcome at once."""
        if self._observers.want(JobsClaimed):
            self._observers.emit(JobsClaimed([claimed.waited for claimed in jobs]))
        create_task = asyncio.get_running_loop().create_task
        paused = self._run_time.paused_tasks if self._run_time is not None else frozenset[str]()
        for claimed in jobs:
            attempt = self._attempt(lease_id, claimed)
            if attempt.definition is None:
                self._finisher.add(attempt, self._unknown(claimed))
            elif claimed.task in paused:
                lane = attempt.lane
                self._finisher.add(
                    attempt, Unknown(claimed.id, claimed.task, lane.queue, lane.priority, "paused")
                )
            elif attempt.policy is None:
                error = JobError("Undecodable", f"the stored options cannot be read: {claimed.options}")
                self._finisher.add(attempt, Ended(claimed.id, JobStatus.FAILED, "undecodable", error))
            elif lease_id != self._lease_id:
                # Lost while the claim was under way.
                self._finisher.add(attempt, Released(claimed.id))
            elif claimed.expired:
                self._finisher.add(attempt, Ended(claimed.id, JobStatus.EXPIRED, "expired", None))
            else:
                self._attempts.add(attempt)
                attempt.runner = create_task(self._carry_out(attempt))
        self._observers.emit(JobsStarted(lambda: self._started(jobs)))

    def _started(self, jobs: Sequence[Claimed]) -> list[JobStarted]:
        ids = {claimed.id for claimed in jobs}
        return [
            JobStarted(
                job_id=attempt.claimed.id,
                task=attempt.claimed.task,
                queue=attempt.lane.queue,
                attempt=attempt.claimed.attempt,
                waited=attempt.claimed.waited,
                worker=self.name,
            )
            for attempt in self._attempts
            if attempt.claimed.id in ids
        ]

    def _attempt(self, lease_id: UUID, claimed: Claimed) -> Attempt:
        lane = self._claimer.book.lane(claimed.lane)
        definition = self._registry.get(claimed.task)
        if definition is None:
            policy = None
        elif claimed.options is None:
            policy = self._registry.policy(definition, lane.queue)
        else:
            try:
                call = restore_options(claimed.options)
            except InvalidOptionError:
                policy = None
            else:
                policy = self._registry.policy_of_call(definition, lane.queue, call)
        return Attempt(claimed, definition, policy, lane, lease_id, self.name, self._scopes)

    def _unknown(self, claimed: Claimed) -> Unknown:
        lane = self._claimer.book.lane(claimed.lane)
        if claimed.task not in self._unknown_tasks:
            self._unknown_tasks.add(claimed.task)
            logger.warning(
                "worker %s does not know task %r of job %s: it leaves such jobs for workers that do",
                self.name,
                claimed.task,
                claimed.id,
            )
        return Unknown(claimed.id, claimed.task, lane.queue, lane.priority)

    async def _execute_twice(self, attempt: Attempt) -> None:
        """Execute a job as if the outcome of its first execution had been lost; they must end alike."""
        assert attempt.policy is not None
        if attempt.policy.max_losses == 0:
            # Never run again after a loss: once is what it was made for.
            await self._execute(attempt)
            return
        try:
            first = await self._executor.run(attempt)
            if attempt.scope is not None:
                await attempt.scope.roll_back()
                attempt.scope.close()
        except asyncio.CancelledError:
            self._end(attempt, self._executor.give_up(attempt))
            raise
        if attempt not in self._attempts or attempt.stop_reason in (Stop.CANCEL, Stop.RELEASE):
            self._end(attempt, first)
            return
        again = attempt.again()
        self._deadlines.forget(attempt)
        self._attempts.remove(attempt)
        self._attempts.add(again)
        await self._execute(again, first)

    async def _execute(self, attempt: Attempt, first: Outcome | None = None) -> None:
        """Execute a job and see to its outcome; if it is the second time, compare it with the *first*."""
        try:
            outcome = await self._executor.run(attempt)
            if first is not None:
                outcome = judge(first, outcome, self._codec)
            if attempt.scope is not None:
                outcome, is_kept = await self._conclude(attempt, attempt.scope, outcome)
                self._end(attempt, outcome, is_kept=is_kept)
                return
        except asyncio.CancelledError:
            self._end(attempt, self._executor.give_up(attempt))
            raise
        self._end(attempt, outcome, is_kept=attempt.is_kept)

    async def _run_isolated(self, attempt: Attempt, started: Callable[[], object]) -> dict[str, Any]:
        """Run an attempt in a child process; return its reply."""
        definition = attempt.definition
        assert definition is not None
        job = {
            "claimed": attempt.claimed,
            "lane": astuple(attempt.lane),
            "lease_id": attempt.lease_id,
            "worker": self.name,
            "module": definition.handler.__module__,
            "at_run_time": self._registry.stored_at_run_time(definition.name),
        }

        def reason() -> str | None:
            # At the hard limit there is nothing to ask for.
            stopped = attempt.stop_reason
            return None if stopped in (None, Stop.TIMEOUT) else stopped.value

        return await self._children.run(job, started=started, stop_reason=reason)

    def _give_up(self, attempt: Attempt) -> None:
        """Free the slot of an attempt that does not let itself be stopped.

        Its handler goes on, and counts for nothing: the outcome is out, and what it writes as this attempt is
        fenced.
        """
        if attempt not in self._attempts:
            return
        logger.error(
            "job %s (%s), attempt %d: does not stop when cancelled: given up, and its slot is free",
            attempt.claimed.id,
            attempt.claimed.task,
            attempt.claimed.attempt,
        )
        self._observers.emit(AttemptsAbandoned([attempt.claimed.id]))
        self._end(attempt, self._executor.give_up(attempt))
        if attempt.is_concluding and attempt.runner is not None:
            attempt.runner.cancel()

    async def _conclude(
        self, attempt: Attempt, scope: JobScope, outcome: Outcome
    ) -> tuple[Outcome, bool | None]:
        """Write what the handler left to be written with its outcome.

        Returns the outcome, and whether it is committed (True), fenced off (False), or still to be written.
        """
        attempt.is_concluding = True
        if not attempt.is_stopped:
            # A limit is the handler's, and it has ended.
            self._deadlines.forget(attempt)
        await scope.flush()
        if not scope.has_transaction:
            return outcome, None
        if not isinstance(outcome, Succeeded):
            await scope.roll_back()
            return outcome, None
        try:
            is_kept = await scope.commit(outcome.result, is_current=lambda: attempt in self._attempts)
        except Exception as error:
            # Whatever the user's own constraints and triggers raise.
            return self._executor.not_committed(attempt, error), None
        return outcome, is_kept

    def _end(self, attempt: Attempt, outcome: Outcome, *, is_kept: bool | None = None) -> None:
        """Let go of an attempt; *is_kept* is None if its outcome is still to be written."""
        if attempt.scope is not None:
            attempt.scope.close()
        if attempt not in self._attempts:
            # Given up on before: its outcome is out already.
            return
        self._attempts.discard(attempt)
        if attempt.timer is not None:
            self._deadlines.forget(attempt)
        if is_kept is None:
            self._finisher.add(attempt, outcome)
        else:
            self._finisher.report(attempt, outcome, is_kept=is_kept)
        self._claimer.wake()
        self._attempt_ended.set()

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
            if any(attempt.claimed.id == job_id for attempt in self._attempts):
                # Only the database says whether it was asked for; look there now.
                self._maintenance.wake()

    def _cancel(self, job_ids: Iterable[UUID]) -> None:
        wanted = set(job_ids)
        for attempt in list(self._attempts):
            if attempt.claimed.id in wanted:
                self._deadlines.stop(attempt, Stop.CANCEL)

    def _announce(self, *, finished: Collection[UUID], lanes: Collection[int]) -> None:
        for lane_id in lanes:
            self._signals.publish(f"ready {lane_id}")
        if finished and self._results.is_awaited:
            self._results.hint(finished)
        if finished and time.monotonic() < self._watched_until:
            ids = list(map(str, finished))
            for start in range(0, len(ids), FINISHED_IDS):
                self._signals.publish_finished(" ".join(ids[start : start + FINISHED_IDS]))
