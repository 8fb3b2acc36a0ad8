"""The settings of a worker: values, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from pgqueue.errors import ConfigurationError


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
        if not self.queues or not all(isinstance(queue, str) and queue for queue in self.queues):
            raise ConfigurationError(f"worker: queues must name at least one queue, got {self.queues!r}")
        if self.concurrency < 1:
            raise ConfigurationError(f"worker: concurrency must be at least 1, got {self.concurrency}")
        if self.prefetch < 0:
            raise ConfigurationError(f"worker: prefetch must be at least 0, got {self.prefetch}")
        if self.poll_interval is not None and not 0 < self.poll_interval < float("inf"):
            raise ConfigurationError(
                f"worker: poll_interval must be more than 0 seconds, got {self.poll_interval}"
            )
        if not 1 <= self.lease_ttl < float("inf"):
            raise ConfigurationError(f"worker: lease_ttl must be at least 1 second, got {self.lease_ttl}")
        if not (self.grace >= 0 and self.cancel_grace >= 0):
            raise ConfigurationError("worker: grace and cancel_grace cannot be negative")
