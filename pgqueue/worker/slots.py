"""The slots of a worker: the attempts that are under way in it, from claimed jobs to outcomes.

It decides nothing about retries and writes no outcome: the executor returns how an attempt ended, and the
finisher writes it. A job that runs at most once (`acks_late=False`) starts when its claim is on the disk.
Other claims need not be there before their jobs start: if a crashing server forgets one, the job is claimed
again, and runs again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from typing import Any
from uuid import UUID

import anyio

from pgqueue.events.attempts import JobsClaimed, JobsStarted, JobStarted
from pgqueue.events.kinds import AttemptsAbandoned
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Outcome, PutAside, Released, Succeeded
from pgqueue.options.levels import restore_options
from pgqueue.own_tasks import on_behalf_of
from pgqueue.store import Claimed, Lane, Underway
from pgqueue.tasks.middleware import overriding
from pgqueue.tasks.redaction import NOTHING
from pgqueue.upkeep.state import WorkerState
from pgqueue.worker.attempt.attempt import CONCLUDING, OVER, RUNNING, RunningAttempt, Stop
from pgqueue.worker.attempt.bystanders import Bystanders
from pgqueue.worker.attempt.deadlines import Deadlines
from pgqueue.worker.attempt.eager_start import task_starter
from pgqueue.worker.attempt.executor import Executor
from pgqueue.worker.attempt.finishing import FinishingExecutor
from pgqueue.worker.attempt.inputs import Inputs
from pgqueue.worker.attempt.rerun import judge
from pgqueue.worker.host import WorkerHost
from pgqueue.worker.isolation.children import ChildProcesses
from pgqueue.worker.isolation.importing import check_importable
from pgqueue.worker.isolation.wire import read_reply
from pgqueue.worker.outcome.finisher import Finisher
from pgqueue.worker.services.scope import JobScope, Scopes
from pgqueue.worker.settings import WorkerSettings

logger = logging.getLogger("pgqueue.worker")


class Slots:
    """A worker's slots, and the attempts in them. *lanes*: those that jobs are claimed from, by id."""

    def __init__(
        self,
        host: WorkerHost,
        scopes: Scopes,
        finisher: Finisher,
        state: WorkerState,
        lanes: Mapping[int, Lane],
        settings: WorkerSettings,
    ) -> None:
        registry = host.registry
        for definition in registry.definitions:
            if definition.is_isolated:
                check_importable(definition, registry)
            if definition.collector is not None:
                definition.collector.fit(settings.concurrency)
        self._registry = registry
        self._find_task = host.find_task
        self._scopes = scopes
        self._finisher = finisher
        self._state = state
        self._dsn = host.database.dsn
        self._observers = host.observers
        self._lanes = lanes
        self._settings = settings
        self.worker = scopes.worker
        self.attempts: set[RunningAttempt] = set()
        self.deadlines = Deadlines(
            self.attempts, grace=settings.cancel_grace, abandon=self.abandon, lost=self._return_lost
        )
        self.bystanders = Bystanders(self.attempts, self.deadlines)
        finishing = overriding(host.middleware, "finish")
        # Decided once: without middleware, no job pays for the question.
        self.executor = (partial(FinishingExecutor, finishing) if finishing else Executor)(
            codec=scopes.codec,
            result_limit=settings.result_limit,
            threads=settings.concurrency,
            rng=host.rng,
            watch=self.deadlines.watch,
            run_isolated=self._run_isolated,
            inputs=Inputs(scopes.read_inputs, scopes.read_results, scopes.codec),
            middleware=overriding(host.middleware, "run"),
        )
        self._children = ChildProcesses(grace=settings.cancel_grace)
        self.run_twice(settings.run_twice)
        self._unknown_tasks: set[str] = set()
        self._changed = anyio.Event()

    def run_twice(self, twice: bool) -> None:
        """Execute jobs that start from now on twice, or once."""
        # Decided here: no job pays for the question.
        self._carry_out = self._execute_twice if twice else self._execute

    @property
    def free(self) -> int:
        """How many more attempts may start now."""
        # While outcomes cannot be written, no more of them are produced.
        if self._finisher.backlog > 10 * self._settings.concurrency:
            return 0
        return self._settings.concurrency - len(self.attempts)

    @property
    def job_ids(self) -> list[UUID]:
        """The jobs whose attempts are under way, or whose outcome is not committed yet."""
        return [*(attempt.claimed.id for attempt in self.attempts), *self._finisher.job_ids]

    @property
    def is_idle(self) -> bool:
        """Whether no attempt is under way, and every outcome is committed."""
        return not self.attempts and not self._finisher.backlog

    def underway(self, lease_id: UUID) -> list[Underway]:
        """The attempts under a lease that go on, or whose outcomes are to be written."""
        going_on = [attempt for attempt in self.attempts if not attempt.is_stopped]
        return [
            attempt.underway
            for attempt in (*going_on, *self._finisher.counted)
            if attempt.lease_id == lease_id
        ]

    def take_claims(self, lease_id: UUID, jobs: list[Claimed]) -> list[Claimed]:
        """Return those of *jobs*, claimed just now, that do not run here already.

        The others do, under claims that a crashed server forgot: their attempts have these claims now.
        """
        known = {
            (attempt.claimed.id, attempt.claimed.attempt)
            for attempt in (*self.attempts, *self._finisher.counted)
            if attempt.lease_id == lease_id
        }
        return [job for job in jobs if (job.id, job.attempt) not in known]

    def stop(
        self, reason: Stop, *, job_ids: Iterable[UUID] | None = None, lease_id: UUID | None = None
    ) -> None:
        """Stop attempts: of certain jobs, or under a certain lease. Those that do not stop are abandoned."""
        wanted = None if job_ids is None else set(job_ids)
        for attempt in list(self.attempts):
            if wanted is not None and attempt.claimed.id not in wanted:
                continue
            if lease_id is not None and attempt.lease_id != lease_id:
                continue
            self.deadlines.stop(attempt, reason)

    def cancel(self, job_ids: Collection[UUID]) -> None:
        """Stop the attempts of these jobs: the jobs are to be cancelled."""
        if job_ids:
            self.stop(Stop.CANCEL, job_ids=job_ids)

    def release(self) -> None:
        """Stop all attempts: their jobs return to the queue."""
        for attempt in list(self.attempts):
            attempt.stop(Stop.RELEASE)

    async def wait_empty(self) -> None:
        """Wait until no attempt is under way."""
        while self.attempts:
            self._changed = anyio.Event()
            await self._changed.wait()

    async def close(self) -> None:
        """End the child processes."""
        await self._children.close()

    def start(self, lease_id: UUID, jobs: Sequence[Claimed]) -> None:
        """Start claimed jobs. Those that are not to run get their outcomes at once."""
        self._tell_claimed(jobs)
        started: list[RunningAttempt] = []
        paused, held = self._state.paused_tasks, self._state.lease_id
        for claimed in jobs:
            attempt = self._attempt(lease_id, claimed)
            if attempt.definition is None:
                self._finisher.add(attempt, self._unknown(claimed))
            elif claimed.task in paused:
                lane = attempt.lane
                self._finisher.add(
                    attempt, PutAside(claimed.id, claimed.task, lane.queue, lane.priority, "paused")
                )
            elif lease_id != held:
                # Lost while the claim was under way.
                self._finisher.add(attempt, Released(claimed.id))
            elif claimed.expired:
                self._finisher.add(attempt, Ended(claimed.id, JobStatus.EXPIRED, "expired", None))
            elif attempt.policy is None:
                message = f"the stored options cannot be read: {claimed.options}"
                self._finisher.add(attempt, self.executor.undecodable(attempt, message))
            else:
                started.append(attempt)
        self.attempts.update(started)
        self._tell_started(started)
        start_task = task_starter(asyncio.get_running_loop())
        for attempt in started:
            assert attempt.policy is not None
            attempt.advance(RUNNING)
            carry_out = self._carry_out if attempt.policy.acks_late else self._execute_at_most_once
            runner = start_task(carry_out(attempt))
            if not runner.done():
                attempt.runner = runner

    def _tell_claimed(self, jobs: Sequence[Claimed]) -> None:
        if self._observers.want(JobsClaimed):
            self._observers.emit(JobsClaimed(tuple(jobs), self._lanes, self._settings.queues))

    def _tell_started(self, attempts: Iterable[RunningAttempt]) -> None:
        if self._observers.want(JobsStarted):
            self._observers.emit(JobsStarted(tuple(map(self._started, attempts))))

    def _started(self, attempt: RunningAttempt) -> JobStarted:
        return JobStarted(
            job_id=attempt.claimed.id,
            task=attempt.claimed.task,
            queue=attempt.lane.queue,
            attempt=attempt.claimed.attempt,
            waited=attempt.claimed.waited,
            worker=self.worker,
        )

    def _attempt(self, lease_id: UUID, claimed: Claimed) -> RunningAttempt:
        lane = self._lanes.get(claimed.lane) or self._lane(claimed)
        definition = self._registry.get(claimed.task)
        if definition is None:
            definition = self._find_task(claimed.task)
        if definition is None:
            policy = None
        elif claimed.options is None:
            policy = self._registry.policy(definition, lane.queue)
        else:
            try:
                policy = self._registry.policy(definition, lane.queue, restore_options(claimed.options))
            except Exception:
                # Another program wrote them: whatever is wrong with them fails this job alone.
                policy = None
        return RunningAttempt(claimed, definition, policy, lane, lease_id, self.worker, self._scopes)

    def _lane(self, claimed: Claimed) -> Lane:
        """Return the lane of a job. One that was removed meanwhile has no queue that is known."""
        return self._lanes.get(claimed.lane) or Lane(claimed.lane, "", 0, "")

    def _unknown(self, claimed: Claimed) -> PutAside:
        lane = self._lane(claimed)
        if claimed.task not in self._unknown_tasks:
            self._unknown_tasks.add(claimed.task)
            logger.warning(
                "worker %s does not declare task %r (job %s); leaving such jobs to workers that do",
                self.worker,
                claimed.task,
                claimed.id,
            )
        return PutAside(claimed.id, claimed.task, lane.queue, lane.priority)

    async def _execute_at_most_once(self, attempt: RunningAttempt) -> None:
        """Execute a job once its claim is on the disk."""
        try:
            is_held = await self._scopes.secure_claim(attempt.claimed.id, attempt.lease_id)
        except asyncio.CancelledError:
            self._end(attempt, self.executor.abandon(attempt))
            raise
        if is_held:
            await self._execute(attempt)
        else:
            self._end(attempt, Released(attempt.claimed.id))

    async def _execute_twice(self, attempt: RunningAttempt) -> None:
        """Execute a job as if the outcome of its first execution had been lost; they must end alike."""
        assert attempt.policy is not None
        if attempt.policy.max_losses == 0:
            # It is never run again after a loss, so it is not run twice here either.
            await self._execute(attempt)
            return
        first = await self.executor.run(attempt)
        if attempt.scope is not None and attempt.scope.suspended is not None:
            # It begins anew as it is.
            self._go_on(attempt, self._conclude(attempt, attempt.scope, first))
        else:
            self._go_on(attempt, self._execute_again(attempt, first))

    async def _execute_again(self, attempt: RunningAttempt, first: Outcome) -> None:
        # Where asyncio tasks start at once it is not set yet, and the second attempt needs it.
        attempt.runner = asyncio.current_task()
        try:
            if attempt.scope is not None:
                await attempt.scope.roll_back()
                attempt.scope.close()
        except asyncio.CancelledError:
            self._end(attempt, self.executor.abandon(attempt))
            raise
        if attempt not in self.attempts or attempt.stop_reason in (Stop.CANCEL, Stop.RELEASE):
            self._end(attempt, first)
            return
        again = attempt.again()
        self.deadlines.forget(attempt)
        self.attempts.remove(attempt)
        self.attempts.add(again)
        await self._execute(again, first)

    async def _execute(self, attempt: RunningAttempt, first: Outcome | None = None) -> None:
        """Execute a job and see to its outcome; if it is the second time, compare it with the *first*."""
        outcome = await self.executor.run(attempt)
        if first is not None:
            try:
                secrets = NOTHING if attempt.definition is None else attempt.definition.result.secrets
                outcome = judge(first, outcome, self._scopes.codec, secrets)
            except BaseException as error:
                # The codec is the user's: it may raise anything.
                outcome = self.executor.undecided(attempt, error)
        if attempt.scope is not None:
            self._go_on(attempt, self._conclude(attempt, attempt.scope, outcome))
            return
        self._end(attempt, outcome, is_kept=attempt.is_kept)
        # The task's context refers to the attempt: together they would be garbage for the collector to find.
        attempt.runner = None

    def _go_on(self, attempt: RunningAttempt, coroutine: Coroutine[Any, Any, None]) -> None:
        """Have *coroutine* do what is left of an attempt, in an asyncio task that its handler does not know.

        What a handler has left behind (a timer of a library, a cancel scope that was never closed) may cancel
        the handler's own task for as long as that lives.
        """
        attempt.runner = None
        runner = task_starter(asyncio.get_running_loop())(coroutine)
        if not runner.done():
            attempt.runner = runner

    async def _run_isolated(
        self, attempt: RunningAttempt, started: Callable[[], object]
    ) -> tuple[Outcome, bool | None] | JobError:
        """Run an attempt in a child process; return its reply in the form that the executor takes."""
        definition = attempt.definition
        assert definition is not None
        job = {
            "claimed": attempt.claimed,
            "lane": astuple(attempt.lane),
            "lease_id": attempt.lease_id,
            "worker": self.worker,
            "found_in": definition.found_in,
            "dsn": self._dsn,
            "at_run_time": self._registry.stored_at_run_time(definition.name),
        }

        def reason() -> str | None:
            # At the hard limit it is not asked to stop but killed.
            stopped = attempt.stop_reason
            return None if stopped in (None, Stop.TIMEOUT) else stopped.value

        return read_reply(await self._children.run(job, started=started, stop_reason=reason))

    def abandon(self, attempt: RunningAttempt) -> None:
        """Free the slot of an attempt that ignores its cancellation.

        Its handler goes on with no effect on the job: the outcome is out, and what it writes as this attempt
        is fenced off.
        """
        if attempt not in self.attempts:
            return
        logger.error(
            "job %s (%s), attempt %d: did not stop when cancelled; abandoned, slot freed",
            attempt.claimed.id,
            attempt.claimed.task,
            attempt.claimed.attempt,
        )
        self._observers.emit(AttemptsAbandoned([attempt.claimed.id]))
        was_concluding = attempt.phase is CONCLUDING
        self._end(attempt, self.executor.abandon(attempt))
        if was_concluding and attempt.runner is not None:
            with on_behalf_of(attempt):
                attempt.runner.cancel()

    def _return_lost(self, attempt: RunningAttempt) -> None:
        """Return the job of an attempt to the queue whose asyncio task has ended without an outcome."""
        logger.warning(
            "job %s (%s), attempt %d: its asyncio task was cancelled before it began; the job returns to the "
            "queue",
            attempt.claimed.id,
            attempt.claimed.task,
            attempt.claimed.attempt,
        )
        self._end(attempt, self.executor.abandon(attempt))

    async def _conclude(self, attempt: RunningAttempt, scope: JobScope, outcome: Outcome) -> None:
        """Write what the handler left to be written with its outcome, and end the attempt."""
        try:
            outcome, is_kept = await self._write_scope(attempt, scope, outcome)
        except asyncio.CancelledError:
            self._end(attempt, self.executor.abandon(attempt))
            raise
        else:
            self._end(attempt, outcome, is_kept=is_kept)
        finally:
            attempt.runner = None

    async def _write_scope(
        self, attempt: RunningAttempt, scope: JobScope, outcome: Outcome
    ) -> tuple[Outcome, bool | None]:
        """Return the outcome, and whether it is committed (True), fenced off (False), or to be written."""
        if attempt.phase is OVER:
            # Abandoned: its scope is closed, and nothing of it is kept.
            return outcome, None
        if scope.suspended is not None and not attempt.is_stopped:
            # Whatever its handler has made of it.
            outcome = scope.suspended
        attempt.advance(CONCLUDING)
        if not attempt.is_stopped:
            # Limits are for the handler, and it has ended.
            self.deadlines.forget(attempt)
        await scope.flush()
        if not scope.has_transaction:
            return outcome, None
        if not isinstance(outcome, Succeeded):
            await scope.roll_back()
            return outcome, None
        try:
            is_kept = await scope.commit(outcome.result, is_current=lambda: attempt in self.attempts)
        except Exception as error:
            # The user's own constraints and triggers may raise anything.
            return self.executor.not_committed(attempt, error), None
        return outcome, is_kept

    def _end(self, attempt: RunningAttempt, outcome: Outcome, *, is_kept: bool | None = None) -> None:
        """Let go of an attempt; *is_kept* is None if its outcome is still to be written."""
        if attempt.scope is not None:
            attempt.scope.close()
        if attempt not in self.attempts:
            # Abandoned before: its outcome is out already.
            return
        self.attempts.discard(attempt)
        if attempt.timer is not None:
            self.deadlines.forget(attempt)
        if is_kept is None:
            self._finisher.add(attempt, outcome)
        else:
            self._finisher.report(attempt, outcome, is_kept=is_kept)
        self._state.claiming.set()
        if not self.attempts:
            self._changed.set()
