"""One attempt under way: the job, what runs it, and why it was told to stop."""

from __future__ import annotations

import asyncio
from enum import Enum
from uuid import UUID

from pgqueue.context import JobContext
from pgqueue.options import Policy
from pgqueue.registry import TaskDefinition
from pgqueue.store import Claimed


class Stop(Enum):
    """Why an attempt was told to stop."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    RELEASE = "release"
    """The worker stops, or its lease is lost: the job goes back."""


class Attempt:
    """An attempt, from its claim to its outcome."""

    __slots__ = ("claimed", "context", "definition", "lease_id", "policy", "runner", "started", "stop_reason")

    def __init__(
        self,
        claimed: Claimed,
        definition: TaskDefinition | None,
        policy: Policy | None,
        context: JobContext,
        *,
        lease_id: UUID,
    ) -> None:
        self.claimed = claimed
        self.definition = definition
        """None: this worker does not know the task, and will not run the job."""
        self.policy = policy
        self.context = context
        self.lease_id = lease_id
        self.runner: asyncio.Task[None] | None = None
        self.started = 0.0
        """Monotonic, in seconds; 0 before the handler starts."""
        self.stop_reason: Stop | None = None

    def stop(self, reason: Stop) -> None:
        """Cancel the handler. The first reason counts."""
        if self.stop_reason is None and self.runner is not None and not self.runner.done():
            self.stop_reason = reason
            self.runner.cancel()
