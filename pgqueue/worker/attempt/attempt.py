"""One attempt under way: the job, what runs it, why it was told to stop, and how it ended.

An attempt that has ended is free at once, without Python's collector, because nothing that it made refers to
itself. Its asyncio task has a context that refers to the attempt, so the attempt has to let go of the task
when it ends. As long as it did not, each job left nine objects to the collector, which took an eighth of the
worker's processor time.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Final
from uuid import UUID

from pgqueue.forks import how_ended
from pgqueue.model.outcomes import Outcome
from pgqueue.model.raised import Raised
from pgqueue.options.policy import Policy
from pgqueue.own_tasks import on_behalf_of
from pgqueue.retry.decision import JobSoFar
from pgqueue.store import Claimed, Lane, Underway
from pgqueue.tasks.context import JobContext
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.worker.services.scope import JobScope, Scopes


class Phase(IntEnum):
    """How far an attempt has come."""

    CLAIMED = 0
    """Its job is under lease, and nothing runs yet."""
    RUNNING = 1
    """It was handed to a runner, and observers may know that it started."""
    CONCLUDING = 2
    """Its handler has ended, and what the handler left in `scope` is being written: too late to stop."""
    OVER = 3
    """It has an outcome. Whatever its handler still does has no effect on the job."""


class Stop(Enum):
    """Why an attempt was told to stop."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    RELEASE = "release"
    """The worker stops, or its lease is lost: the job returns to the queue."""


# By these names on the path of every job: Python 3.11 takes a tenth of a microsecond for one in its class.
CLAIMED: Final = Phase.CLAIMED
RUNNING: Final = Phase.RUNNING
CONCLUDING: Final = Phase.CONCLUDING
OVER: Final = Phase.OVER
TIMEOUT: Final = Stop.TIMEOUT


class RunningAttempt:
    """An attempt, from its claim to its outcome."""

    __slots__ = (
        "_context",
        "_scopes",
        "before",
        "claimed",
        "definition",
        "interrupt",
        "is_kept",
        "is_soft_due",
        "is_soft_sent",
        "lane",
        "lease_id",
        "outcome",
        "phase",
        "policy",
        "raised",
        "runner",
        "scope",
        "seconds",
        "started",
        "stop_reason",
        "timer",
        "worker",
    )

    def __init__(
        self,
        claimed: Claimed,
        definition: TaskDefinition | None,
        policy: Policy | None,
        lane: Lane,
        lease_id: UUID,
        worker: str,
        scopes: Scopes,
    ) -> None:
        self.claimed = claimed
        self.definition = definition
        """None: this worker does not declare the task, and will not run the job."""
        self.policy = policy
        """None: the same, or the stored options of the job cannot be read."""
        self.lane = lane
        self.lease_id = lease_id
        self.worker = worker
        self.runner: asyncio.Task[None] | None = None
        self.phase = self.before = CLAIMED
        """Now, and before this one."""
        self.started = 0.0
        """When the handler started, monotonic; 0: it has not; infinite: a child process is to start it."""
        self.seconds = 0.0
        """How long the handler ran."""
        self.timer: asyncio.TimerHandle | None = None
        """For the next time limit, once that is near."""
        self.is_soft_sent = False
        """The soft limit has passed, and the handler was told."""
        self.is_soft_due = False
        """... by a cancellation that has not arrived yet, and is to become SoftTimeLimitExceeded."""
        self.interrupt: Callable[[], None] | None = None
        """How the handler is told of its soft limit if it does not run in the runner itself."""
        self.is_kept: bool | None = None
        """Whether its outcome is committed or was fenced off already; None: it is still to be written."""
        self.stop_reason: Stop | None = None
        self.outcome: Outcome | None = None
        self.scope: JobScope | None = None
        """What its handler used through its context; None: nothing."""
        # Set where a handler raises, and not here: every attempt would pay for it.
        self.raised: Raised
        """What its handler raised, until observers were told of it."""
        self._context: JobContext | None = None
        self._scopes = scopes

    @property
    def context(self) -> JobContext:
        """The context of its job, for the handler."""
        if self._context is None:
            claimed, policy, definition = self.claimed, self.policy, self.definition
            self._context = JobContext(
                job_id=claimed.id,
                task=claimed.task,
                queue=self.lane.queue,
                priority=self.lane.priority,
                attempt=claimed.attempt,
                losses=claimed.losses,
                key=claimed.key,
                headers=claimed.headers,
                worker=self.worker,
                is_stopped=lambda: self.is_stopped,
                check_call=None if definition is None else definition.arguments.check,
                services=self._open_scope,
                worker_has=self._scopes.lifespan,
                max_retries=None if policy is None else policy.retry.max_retries,
                module="pgqueue.handlers" if definition is None else definition.module,
                tags=claimed.tags,
                created=claimed.created,
            )
        return self._context

    @property
    def services(self) -> JobScope:
        """What its handler reaches the database through."""
        return self._open_scope()

    @property
    def is_in_handler(self) -> bool:
        """Whether what runs now is the asyncio task of the handler itself."""
        # While its first step runs, the task may not be known yet, and no other can run.
        return self.runner is None or asyncio.current_task() is self.runner

    def forget_context(self) -> None:
        """Let go of the context, which refers to this: together they would wait for Python's collector."""
        self._context = None

    def let_go(self) -> None:
        """Let go of what the handler raised, which refers to this by the frames that it came through."""
        if hasattr(self, "raised"):
            del self.raised

    @property
    def so_far(self) -> JobSoFar:
        """What a decision about its end needs to know of its job."""
        claimed = self.claimed
        ran = time.monotonic() - self.started if self.started else 0.0
        return JobSoFar(claimed.id, claimed.attempt - 1, (claimed.age or 0.0) + ran, claimed.options)

    @property
    def underway(self) -> Underway:
        """What identifies its claim."""
        claimed = self.claimed
        # A child process that is to start it has not.
        ran = time.monotonic() - self.started if 0 < self.started < math.inf else 0.0
        return Underway(claimed.id, claimed.attempt, claimed.losses, ran)

    def _open_scope(self) -> JobScope:
        if self.scope is None:
            self.scope = self._scopes.open(
                self.claimed.id, self.lease_id, self.claimed.attempt, self.claimed.arguments
            )
            if self.phase is OVER:
                # It was abandoned, and its handler goes on.
                self.scope.close()
        return self.scope

    def again(self) -> RunningAttempt:
        """Return this attempt as it would be if it had been lost with its worker and claimed again."""
        again = RunningAttempt(
            self.claimed._replace(losses=self.claimed.losses + 1),
            self.definition,
            self.policy,
            self.lane,
            self.lease_id,
            self.worker,
            self._scopes,
        )
        again.runner = self.runner
        again.advance(RUNNING)
        return again

    def advance(self, phase: Phase) -> None:
        """Enter a later *phase*. Raises RuntimeError for one that cannot follow: phases never go back.

        Only a running attempt concludes; one that is not to run, and one with nothing to write, is over at
        once.
        """
        before = self.phase
        if phase <= before or (phase is CONCLUDING and before is not RUNNING):
            raise RuntimeError(
                f"job {self.claimed.id}, attempt {self.claimed.attempt}: it is {before.name.lower()} and "
                f"cannot become {phase.name.lower()}"
            )
        self.before = before
        self.phase = phase

    @property
    def was_started(self) -> bool:
        """Whether it was handed to a runner, and told of as running."""
        return self.phase is not CLAIMED and (self.phase is not OVER or self.before is not CLAIMED)

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to stop."""
        return self.stop_reason is not None

    def interrupt_softly(self) -> None:
        """Tell the handler, once, that it exceeded its soft limit."""
        if self.is_soft_sent or self.is_stopped or self.phase is CONCLUDING:
            return
        if self.runner is None or self.runner.done():
            return
        self.is_soft_sent = True
        if self.interrupt is not None:
            self.interrupt()
        else:
            self.is_soft_due = True
            with on_behalf_of(self):
                self.runner.cancel()

    def stop(self, reason: Stop) -> None:
        """Cancel the handler. The first reason counts."""
        if self.phase is CONCLUDING:
            return
        if self.stop_reason is None and self.runner is not None and not self.runner.done():
            self.stop_reason = reason
            # Cancelled before its first step, the runner would end without an outcome: the executor looks
            # at the reason first.
            if self.started:
                with on_behalf_of(self):
                    self.runner.cancel()


class ProcessDiedError(Exception):
    """A child process ended while it ran a handler. `code` is as in subprocess: negative for a signal."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"the process that ran the handler ended with {how_ended(code)}")
