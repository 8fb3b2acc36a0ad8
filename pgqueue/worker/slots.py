"""The attempts that are under way in a worker: from claimed jobs to outcomes.

Decides nothing about retries and writes nothing: the executor says how an attempt ended, the finisher
writes it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import astuple
from uuid import UUID

import anyio

from pgqueue.errors import InvalidOptionError
from pgqueue.events.kinds import (
    AttemptsAbandoned,
    JobsClaimed,
    JobsStarted,
    JobStarted,
)
from pgqueue.events.observers import Observers
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Outcome, PutAside, Released, Succeeded
from pgqueue.options.levels import restore_options
from pgqueue.store import Claimed
from pgqueue.tasks.codec import Codec
from pgqueue.tasks.registry import Registry
from pgqueue.worker.attempt.attempt import RunningAttempt, Stop
from pgqueue.worker.attempt.deadlines import Deadlines
from pgqueue.worker.attempt.eager_start import task_starter
from pgqueue.worker.attempt.executor import Executor
from pgqueue.worker.attempt.rerun import judge
from pgqueue.worker.claim.lanes import LaneBook
from pgqueue.worker.isolation.children import ChildProcesses
from pgqueue.worker.isolation.importing import check_importable
from pgqueue.worker.isolation.wire import read_reply
from pgqueue.worker.outcome.finisher import Finisher
from pgqueue.worker.services.scope import JobScope, Scopes
from pgqueue.worker.settings import WorkerSettings

logger = logging.getLogger("pgqueue.worker")


class Slots:
    """A worker's slots, and the attempts in them.

    *lease* returns the lease that the worker holds now, *paused* the tasks of which nothing may start;
    *freed* is called when an attempt has ended. *settle_claim* has an attempt's claim outlive a crash of the
    server; it returns whether the claim still holds.
    """

    def __init__(
        self,
        *,
        worker: str,
        settings: WorkerSettings,
        registry: Registry,
        scopes: Scopes,
        finisher: Finisher,
        observers: Observers,
        book: LaneBook,
        codec: Codec | None,
        rng: random.Random,
        lease: Callable[[], UUID | None],
        paused: Callable[[], frozenset[str]],
        freed: Callable[[], object],
        settle_claim: Callable[[RunningAttempt], Awaitable[bool]],
    ) -> None:
        for definition in registry.definitions:
            if definition.is_isolated:
                check_importable(definition, registry)
        self._worker = worker
        self._settings = settings
        self._registry = registry
        self._scopes = scopes
        self._finisher = finisher
        self._observers = observers
        self._book = book
        self._codec = codec
        self._lease = lease
        self._paused = paused
        self._freed = freed
        self._settle_claim = settle_claim
        self.attempts: set[RunningAttempt] = set()
        self.deadlines = Deadlines(self.attempts, grace=settings.cancel_grace, give_up=self.give_up)
        self.executor = Executor(
            codec=codec,
            result_limit=settings.result_limit,
            threads=settings.concurrency,
            rng=rng,
            watch=self.deadlines.watch,
            run_isolated=self._run_isolated,
        )
        self._children = ChildProcesses(grace=settings.cancel_grace)
        # Decided once: no job pays for the question.
        self._carry_out = self._execute_twice if settings.run_twice else self._execute
        self._unknown_tasks: set[str] = set()
        self._changed = anyio.Event()

    @property
    def free(self) -> int:
        """How many more attempts may start now."""
        # Outcomes that cannot be written are held back at the source.
        if self._finisher.backlog > 10 * self._settings.concurrency:
            return 0
        return self._settings.concurrency - len(self.attempts)

    @property
    def job_ids(self) -> list[UUID]:
        """The jobs that are under way, and those whose outcome is not committed yet."""
        return [*(attempt.claimed.id for attempt in self.attempts), *self._finisher.job_ids]

    def stop(
        self, reason: Stop, *, job_ids: Iterable[UUID] | None = None, lease_id: UUID | None = None
    ) -> None:
        """Stop attempts: of certain jobs, or under a certain lease. What does not heed it is given up."""
        wanted = None if job_ids is None else set(job_ids)
        for attempt in list(self.attempts):
            if wanted is not None and attempt.claimed.id not in wanted:
                continue
            if lease_id is not None and attempt.lease_id != lease_id:
                continue
            self.deadlines.stop(attempt, reason)

    def release(self) -> None:
        """Cancel all attempts: their jobs go back."""
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
        """Start claimed jobs. What need not run gets its outcome at once."""
        self._tell_claimed(jobs)
        started: list[RunningAttempt] = []
        paused, held = self._paused(), self._lease()
        for claimed in jobs:
            attempt = self._attempt(lease_id, claimed)
            if attempt.definition is None:
                self._finisher.add(attempt, self._unknown(claimed))
            elif claimed.task in paused:
                lane = attempt.lane
                self._finisher.add(
                    attempt, PutAside(claimed.id, claimed.task, lane.queue, lane.priority, "paused")
                )
            elif attempt.policy is None:
                error = JobError("Undecodable", f"the stored options cannot be read: {claimed.options}")
                self._finisher.add(attempt, Ended(claimed.id, JobStatus.FAILED, "undecodable", error))
            elif lease_id != held:
                # Lost while the claim was under way.
                self._finisher.add(attempt, Released(claimed.id))
            elif claimed.expired:
                self._finisher.add(attempt, Ended(claimed.id, JobStatus.EXPIRED, "expired", None))
            else:
                started.append(attempt)
        self.attempts.update(started)
        self._tell_started(started)
        start_task = task_starter(asyncio.get_running_loop())
        for attempt in started:
            assert attempt.policy is not None
            attempt.was_started = True
            carry_out = self._carry_out if attempt.policy.acks_late else self._execute_at_most_once
            runner = start_task(carry_out(attempt))
            if not runner.done():
                attempt.runner = runner

    def _tell_claimed(self, jobs: Sequence[Claimed]) -> None:
        if self._observers.want(JobsClaimed):
            self._observers.emit(JobsClaimed(tuple(jobs), self._book.lanes, self._settings.queues))

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
            worker=self._worker,
        )

    def _attempt(self, lease_id: UUID, claimed: Claimed) -> RunningAttempt:
        lane = self._book.lane(claimed.lane)
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
                policy = self._registry.policy(definition, lane.queue, call)
        return RunningAttempt(claimed, definition, policy, lane, lease_id, self._worker, self._scopes)

    def _unknown(self, claimed: Claimed) -> PutAside:
        lane = self._book.lane(claimed.lane)
        if claimed.task not in self._unknown_tasks:
            self._unknown_tasks.add(claimed.task)
            logger.warning(
                "worker %s does not know task %r of job %s: it leaves such jobs for workers that do",
                self._worker,
                claimed.task,
                claimed.id,
            )
        return PutAside(claimed.id, claimed.task, lane.queue, lane.priority)

    async def _execute_at_most_once(self, attempt: RunningAttempt) -> None:
        """Execute a job once its claim is on the disk.

        Claims do not wait for that: one that a server forgets as it crashes is made again, and the job runs.
        """
        try:
            is_settled = await self._settle_claim(attempt)
        except asyncio.CancelledError:
            self._end(attempt, self.executor.give_up(attempt))
            raise
        if is_settled:
            await self._execute(attempt)
        else:
            self._end(attempt, Released(attempt.claimed.id))

    async def _execute_twice(self, attempt: RunningAttempt) -> None:
        """Execute a job as if the outcome of its first execution had been lost; they must end alike."""
        assert attempt.policy is not None
        if attempt.policy.max_losses == 0:
            # Never run again after a loss: once is what it was made for.
            await self._execute(attempt)
            return
        # Where tasks start at once, nobody has noted it yet; and the second attempt is to have it.
        attempt.runner = asyncio.current_task()
        try:
            first = await self.executor.run(attempt)
            if attempt.scope is not None:
                await attempt.scope.roll_back()
                attempt.scope.close()
        except asyncio.CancelledError:
            self._end(attempt, self.executor.give_up(attempt))
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
        try:
            outcome = await self.executor.run(attempt)
            if first is not None:
                outcome = judge(first, outcome, self._codec)
            if attempt.scope is not None:
                outcome, is_kept = await self._conclude(attempt, attempt.scope, outcome)
                self._end(attempt, outcome, is_kept=is_kept)
                return
        except asyncio.CancelledError:
            self._end(attempt, self.executor.give_up(attempt))
            raise
        else:
            self._end(attempt, outcome, is_kept=attempt.is_kept)
        finally:
            # The task's context has the attempt: together they would be garbage that a collector has to find.
            attempt.runner = None

    async def _run_isolated(
        self, attempt: RunningAttempt, started: Callable[[], object]
    ) -> tuple[Outcome, bool | None] | JobError:
        """Run an attempt in a child process; return its reply, as the executor takes it."""
        definition = attempt.definition
        assert definition is not None
        job = {
            "claimed": attempt.claimed,
            "lane": astuple(attempt.lane),
            "lease_id": attempt.lease_id,
            "worker": self._worker,
            "module": definition.handler.__module__,
            "at_run_time": self._registry.stored_at_run_time(definition.name),
        }

        def reason() -> str | None:
            # At the hard limit there is nothing to ask for.
            stopped = attempt.stop_reason
            return None if stopped in (None, Stop.TIMEOUT) else stopped.value

        return read_reply(await self._children.run(job, started=started, stop_reason=reason))

    def give_up(self, attempt: RunningAttempt) -> None:
        """Free the slot of an attempt that does not let itself be stopped.

        Its handler goes on, and counts for nothing: the outcome is out, and what it writes as this attempt is
        fenced.
        """
        if attempt not in self.attempts:
            return
        logger.error(
            "job %s (%s), attempt %d: does not stop when cancelled: given up, and its slot is free",
            attempt.claimed.id,
            attempt.claimed.task,
            attempt.claimed.attempt,
        )
        self._observers.emit(AttemptsAbandoned([attempt.claimed.id]))
        self._end(attempt, self.executor.give_up(attempt))
        if attempt.is_concluding and attempt.runner is not None:
            attempt.runner.cancel()

    async def _conclude(
        self, attempt: RunningAttempt, scope: JobScope, outcome: Outcome
    ) -> tuple[Outcome, bool | None]:
        """Write what the handler left to be written with its outcome.

        Returns the outcome, and whether it is committed (True), fenced off (False), or still to be written.
        """
        attempt.is_concluding = True
        if not attempt.is_stopped:
            # A limit is the handler's, and it has ended.
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
            # Whatever the user's own constraints and triggers raise.
            return self.executor.not_committed(attempt, error), None
        return outcome, is_kept

    def _end(self, attempt: RunningAttempt, outcome: Outcome, *, is_kept: bool | None = None) -> None:
        """Let go of an attempt; *is_kept* is None if its outcome is still to be written."""
        if attempt.scope is not None:
            attempt.scope.close()
        if attempt not in self.attempts:
            # Given up on before: its outcome is out already.
            return
        self.attempts.discard(attempt)
        if attempt.timer is not None:
            self.deadlines.forget(attempt)
        if is_kept is None:
            self._finisher.add(attempt, outcome)
        else:
            self._finisher.report(attempt, outcome, is_kept=is_kept)
        self._freed()
        if not self.attempts:
            self._changed.set()
