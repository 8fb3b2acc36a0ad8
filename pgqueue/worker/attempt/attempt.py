"""One attempt under way: the job, what runs it, why it was told to stop, and how it ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from enum import Enum
from uuid import UUID

from pgqueue.model.outcomes import Outcome
from pgqueue.options.policy import Policy
from pgqueue.store import Claimed, Lane
from pgqueue.tasks.context import JobContext
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.worker.services.scope import JobScope, Scopes


class Stop(Enum):
    """Why an attempt was told to stop."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    RELEASE = "release"
    """The worker stops, or its lease is lost: the job goes back."""


class RunningAttempt:
    """An attempt, from its claim to its outcome."""

    __slots__ = (
        "_context",
        "_scopes",
        "claimed",
        "definition",
        "interrupt",
        "is_concluding",
        "is_kept",
        "is_soft_due",
        "is_soft_sent",
        "lane",
        "lease_id",
        "outcome",
        "policy",
        "runner",
        "scope",
        "seconds",
        "started",
        "stop_reason",
        "timer",
        "was_started",
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
        """None: this worker does not know the task, and will not run the job."""
        self.policy = policy
        """None: so it is, or its call's options cannot be read."""
        self.lane = lane
        self.lease_id = lease_id
        self.worker = worker
        self.runner: asyncio.Task[None] | None = None
        self.was_started = False
        """It was given a runner, and told of as running."""
        self.started = 0.0
        """Monotonic, in seconds; 0 before the handler starts."""
        self.seconds = 0.0
        """How long the handler ran."""
        self.timer: asyncio.TimerHandle | None = None
        """For the next limit, once it is near."""
        self.is_soft_sent = False
        """The soft limit has passed, and the handler is told."""
        self.is_soft_due = False
        """... by a cancellation that is under way, and is to become SoftTimeLimitExceeded."""
        self.interrupt: Callable[[], None] | None = None
        """How the handler is told of its soft limit where it does not run in the runner itself."""
        self.is_kept: bool | None = None
        """Whether its outcome is committed, or was fenced off, already; None: it is still to be written."""
        self.stop_reason: Stop | None = None
        self.outcome: Outcome | None = None
        self.scope: JobScope | None = None
        """What its handler reached in the database by its context; None: nothing."""
        self.is_concluding = False
        """Its handler has ended, and what `scope` holds is being written: too late to stop."""
        self._context: JobContext | None = None
        self._scopes = scopes

    @property
    def context(self) -> JobContext:
        """What the handler may know of its job."""
        if self._context is None:
            claimed = self.claimed
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
                check_call=None if self.definition is None else self.definition.arguments.check,
                services=self._open_scope,
            )
        return self._context

    def _open_scope(self) -> JobScope:
        if self.scope is None:
            self.scope = self._scopes.open(self.claimed.id, self.lease_id, self.claimed.attempt)
            if self.is_over:
                # Given up on, and it goes on all the same.
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
        again.was_started = True
        return again

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to stop."""
        return self.stop_reason is not None

    @property
    def is_over(self) -> bool:
        """Whether its outcome is out: whatever the handler still does counts for nothing."""
        return self.outcome is not None

    def interrupt_softly(self) -> None:
        """Tell the handler, once, that it overran its soft limit."""
        if self.is_soft_sent or self.is_stopped or self.is_concluding:
            return
        if self.runner is None or self.runner.done():
            return
        self.is_soft_sent = True
        if self.interrupt is not None:
            self.interrupt()
        else:
            self.is_soft_due = True
            self.runner.cancel()

    def stop(self, reason: Stop) -> None:
        """Cancel the handler. The first reason counts."""
        if self.is_concluding:
            return
        if self.stop_reason is None and self.runner is not None and not self.runner.done():
            self.stop_reason = reason
            # Cancelled before its first step, the runner would end without an outcome: the executor looks
            # at the reason first.
            if self.started:
                self.runner.cancel()


class ProcessDiedError(Exception):
    """A child process ended while it ran a handler. `code` is as of subprocess: negative for a signal."""

    def __init__(self, code: int) -> None:
        self.code = code
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        super().__init__(f"the process that ran the handler ended with {how}")
