"""Schedules as their users see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule: what it enqueues, when, and how it stands. Durations are in seconds.

    One of `cron`, `every` and `at` is set. `next_at` is its next tick, or None; `next_times` are the next
    five, in its time zone; `words` says when it ticks. `missed` counts ticks that got no job because they
    were late. `error` says why its last tick could not be made; it is tried again. `is_declared`: code
    declares it; `is_orphaned`: no worker has declared it for five minutes, so its code may be gone.
    `edited_at`: an operator has changed it since, so deploys do not.
    """

    name: str
    task: str
    arguments: Any
    queue: str
    priority: int
    cron: str | None
    every: float | None
    at: datetime | None
    timezone: str
    starts_at: datetime | None
    ends_at: datetime | None
    misfire: str
    overlap: str
    catch_up: float
    jitter: float
    tick_argument: str | None
    next_at: datetime | None
    last_at: datetime | None
    last_job: UUID | None
    missed: int
    error: str | None
    failures: int
    created_at: datetime
    paused_at: datetime | None
    edited_at: datetime | None
    declared_at: datetime | None
    is_declared: bool
    is_orphaned: bool
    actor: str | None
    reason: str | None
    words: str = ""
    next_times: tuple[datetime, ...] = ()

    @property
    def states(self) -> tuple[str, ...]:
        """How it stands: "paused", "fails", "ended", "orphaned", "edited". None of them: it ticks."""
        held = {
            "paused": self.paused_at is not None,
            "fails": self.error is not None,
            "ended": self.next_at is None,
            "orphaned": self.is_orphaned,
            "edited": self.edited_at is not None,
        }
        return tuple(state for state, holds in held.items() if holds)


@dataclass(frozen=True, slots=True)
class ScheduleMeasure:
    """How many schedules tick, are paused, and could not tick. `overdue`: seconds that the latest is late."""

    active: int
    paused: int
    failing: int
    overdue: float


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick of a schedule's history. `job_id`: the job that it made, or None.

    `outcome`: "enqueued"; "queued" or "replaced" (a job waits for the one before); "skipped" (the job before
    had not ended); "deleted" (it was the end of the schedule). `actor` and `reason`: who had it run at
    another time than its own, or deleted it, and why.
    """

    at: datetime
    job_id: UUID | None
    outcome: str
    recorded_at: datetime
    actor: str | None = None
    reason: str | None = None
