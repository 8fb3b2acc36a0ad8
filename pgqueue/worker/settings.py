"""The settings of a worker: values, checked once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pgqueue.errors import ConfigurationError
from pgqueue.model.checks import MAX_SECONDS, integer, number, patience, positive_seconds, shown, text
from pgqueue.options.checks import queue

DEFAULT_CONCURRENCY: Final = 10
MAX_CONCURRENCY: Final = 100_000
MAX_WEIGHT: Final = 1000
MAX_NAME_LENGTH: Final = 200
"""The longest name of a worker, in characters."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings of a worker. Times are in seconds."""

    queues: tuple[str, ...]
    concurrency: int = DEFAULT_CONCURRENCY
    """Handlers that run at once."""
    queue_slots: Mapping[str, int] = field(default_factory=dict)
    """How many of them are of one queue, at most; a queue that is not named may take every free slot."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """How many jobs a queue gets claimed for each one of a queue that is not named."""
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
        self._check_queue_slots()
        integer("worker: prefetch", self.prefetch, least=0)
        if self.poll_interval is not None:
            positive_seconds("worker: poll_interval", self.poll_interval)
        number("worker: lease_ttl", self.lease_ttl, unit="seconds", least=1, most=MAX_SECONDS)
        patience("worker: grace", self.grace)
        patience("worker: cancel_grace", self.cancel_grace)

    @property
    def shares_slots(self) -> bool:
        """Whether all queues share all slots, and take turns as equals."""
        return not self.queue_slots and not self.weights

    def _check_queue_slots(self) -> None:
        for name, slots in self.queue_slots.items():
            integer(
                f"worker: the slots of queue {name!r} (leave out a queue that this worker is not to serve)",
                slots,
                least=1,
            )
            if slots > self.concurrency:
                raise ConfigurationError(
                    f"worker: queue {name!r} has {slots} slots, and the worker's concurrency is "
                    f"{self.concurrency}: raise the concurrency, or give the queue fewer slots"
                )
        for name, weight in self.weights.items():
            integer(f"worker: the weight of queue {name!r}", weight, least=1, most=MAX_WEIGHT)
            if name not in self.queues:
                raise ConfigurationError(
                    f"worker: weights names queue {name!r}, which this worker does not serve: it serves "
                    f"{', '.join(self.queues)}"
                )
        if self.queue_slots and self.prefetch:
            raise ConfigurationError(
                "worker: a prefetch_multiplier above 1 cannot be used with slots per queue, because "
                "prefetched jobs have none yet; leave one of them out"
            )


Queues = Collection[str] | Mapping[str, int | None]
"""Queues by name, or each with the number of its slots; None: it may take every free slot."""


def read_queues(
    given: Queues | None, declared: Iterable[str], concurrency: int | None
) -> tuple[tuple[str, ...], Mapping[str, int], int]:
    """Return the queues of a worker, the slots of those that have some of their own, and the concurrency.

    *concurrency* None: the sum of the slots, and 10 more where a queue has none. Raises ConfigurationError.
    """
    if given is None:
        names, slots = sorted(declared), {}
    elif isinstance(given, str) or not isinstance(given, Collection):
        raise ConfigurationError(
            f"worker: queues must be a list of names, or a mapping of names to slots, got {shown(given)}"
        )
    else:
        names = list(given)
        slots = (
            {name: number for name, number in given.items() if number is not None}
            if isinstance(given, Mapping)
            else {}
        )
    if concurrency is None:
        for name, number in slots.items():
            integer(f"worker: the slots of queue {name!r}", number, least=1)
        shared = 0 if slots and len(slots) == len(names) else DEFAULT_CONCURRENCY
        concurrency = sum(slots.values()) + shared
    return tuple(names), slots, concurrency
