"""The kinds of calls of which the model enqueues some, and what it has to know of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kit.whole_store.oracle import LOSSES, Known
from pgqueue import PgQueue
from pgqueue.model.rates import Rate
from pgqueue.tasks.signature import Signature

DELAY, LONG, EXPIRES, WINDOW, STEPS = 1000.0, 5000.0, 2000.0, 1500.0, (700.0, 3100.0)
"""Seconds. No sum of STEPS, by which time moves, comes near to one of the others."""
QUEUES = ("default", "other")
SLOTS = {"tenant": 2, "queue/other": 3, "once": 1, "newest": 1}
RANKS = (0, 5)


@dataclass(frozen=True)
class Kind:
    """A kind of call."""

    name: str
    make: Callable[[int], Any]
    delay: float = 0.0
    expires: float | None = None
    losses_allowed: int = LOSSES
    limited: bool = False
    may_drop: bool = False
    queue: str = "default"

    def known(self, now: float, signature: Signature[Any]) -> Known:
        """Return a new job of this kind as it has to be."""
        return Known(
            "scheduled" if self.delay else "queued",
            self.name,
            due=now + self.delay if self.delay else None,
            run_at=now + self.delay if self.delay else None,
            expires=None if self.expires is None else now + self.expires,
            losses_allowed=self.losses_allowed,
            limited=self.limited,
            may_drop=self.may_drop,
            queue=self.queue,
            priority=signature.options.get("priority", 0),
            task=signature.task,
        )


def declare(pgq: PgQueue) -> dict[str, Kind]:
    """Declare the model's tasks and limits; return the kinds of calls."""
    tenant = pgq.limit("tenant", slots=SLOTS["tenant"]).by("key")
    once = pgq.limit("once", slots=SLOTS["once"], when_full="drop").by("key")
    newest = pgq.limit("newest", slots=SLOTS["newest"], when_full="replace").by("key")
    rated = pgq.limit("rated", rate=Rate(1, per=600, burst=2))
    pgq.queue("other", slots=SLOTS["queue/other"])
    pgq.queue("shared", fair_by="key", window=2)

    def task(name: str, **options: Any) -> Callable[[int], Any]:
        @pgq.task(name=name, **options)
        async def work(key: str = "a") -> None: ...

        return lambda number: work.options(priority=RANKS[number % 2]).si("ab"[number // 2 % 2])

    kinds = [
        Kind("plain", task("plain")),
        Kind("stranger", task("stranger")),
        Kind("delayed", task("delayed", delay=DELAY), delay=DELAY),
        Kind("expiring", task("expiring", expires=EXPIRES), expires=EXPIRES),
        Kind("late", task("late", delay=DELAY, expires=EXPIRES), delay=DELAY, expires=EXPIRES),
        Kind("fragile", task("fragile", max_losses=0), losses_allowed=0),
        Kind("limited", task("limited", limits=[tenant]), limited=True),
        Kind("elsewhere", task("elsewhere", queue="other"), limited=True, queue="other"),
        Kind("both", task("both", limits=[tenant], queue="other"), limited=True, queue="other"),
        Kind("once", task("once", limits=[once]), limited=True, may_drop=True),
        Kind("newest", task("newest", limits=[newest]), limited=True, may_drop=True),
        Kind("rated", task("rated", limits=[rated]), limited=True),
        Kind("fair", task("fair", queue="shared"), limited=True, queue="shared"),
        Kind("later", task("later", limits=[tenant], delay=DELAY), delay=DELAY, limited=True),
    ]
    for on_dead in ("block", "skip", "halt"):
        group = pgq.ordered(f"line-{on_dead}", on_dead=on_dead).by("key")
        kinds.append(Kind(on_dead, task(on_dead, ordered_by=group), limited=True))
    return {kind.name: kind for kind in kinds}
