"""How a worker works: values, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from pgqueue.errors import ConfigurationError


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
