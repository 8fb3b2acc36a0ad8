"""The settings of a worker: values, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pgqueue.errors import ConfigurationError
from pgqueue.model.checks import MAX_SECONDS, integer, number, patience, positive_seconds, text
from pgqueue.options.checks import queue

MAX_CONCURRENCY: Final = 100_000
MAX_NAME_LENGTH: Final = 200
"""The longest name of a worker, in characters."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings of a worker. Times are in seconds."""

    queues: tuple[str, ...]
    concurrency: int = 10
    """Handlers that run at once."""
    prefetch: int = 0
    """Jobs that may be claimed ahead of a free slot."""
    poll_interval: float | None = None
    """The longest sleep between two looks for jobs. None: 1 s, or 0.1 s where no notifications come."""
    lease_ttl: float = 15.0
    """How long a lease lasts without renewal: after this, the jobs of a dead host are rescued."""
    grace: float = 30.0
    """How long attempts may go on after a stop."""
    cancel_grace: float = 5.0
    """How long a cancelled handler may clean up."""
    result_limit: int = 1024 * 1024
    """The maximum size of a result as JSON, in bytes."""
    name: str | None = None
    run_twice: bool = False
    """Execute every job twice, to test that it may be: see pgqueue.testing."""

    def __post_init__(self) -> None:
        """Raise ConfigurationError if these settings cannot work."""
        if not self.queues:
            raise ConfigurationError("worker: queues must name at least one queue")
        for each in self.queues:
            queue("worker: a queue", each)
        if self.name is not None:
            text("worker: name", self.name, longest=MAX_NAME_LENGTH)
        integer("worker: concurrency", self.concurrency, least=1, most=MAX_CONCURRENCY)
        integer("worker: prefetch", self.prefetch, least=0)
        if self.poll_interval is not None:
            positive_seconds("worker: poll_interval", self.poll_interval)
        number("worker: lease_ttl", self.lease_ttl, unit="seconds", least=1, most=MAX_SECONDS)
        patience("worker: grace", self.grace)
        patience("worker: cancel_grace", self.cancel_grace)
