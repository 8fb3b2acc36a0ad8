"""How schedules look from outside, as JSON: the same over HTTP and on the command line. See `documents`.

Arguments are left out: they may hold secrets.
"""

from __future__ import annotations

import math
import sys
from datetime import datetime

from pgqueue.model.documents import Id, Time
from pgqueue.model.schedules import Schedule, Tick

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    # pydantic, which describes these types, cannot read those of an older `typing`.
    from typing_extensions import TypedDict


class ScheduleDocument(TypedDict):
    """A schedule: what it enqueues, when, and how it stands. Durations are in seconds."""

    name: str
    task: str
    queue: str
    priority: int
    cron: str | None
    every: float | None
    at: Time | None
    timezone: str
    starts_at: Time | None
    ends_at: Time | None
    misfire: str
    """What is done about ticks that no worker saw in time: once, skip or all."""
    overlap: str
    """What a tick does while the job before has not ended: allow, skip, queue or replace."""
    catch_up: float | None
    """How long ago a tick may be for misfire "all"."""
    jitter: float | None
    """Up to how much later its jobs start."""
    tick_argument: str | None
    """The parameter that gets the tick's time."""
    next_at: Time | None
    """Its next tick. Null: none is to come."""
    last_at: Time | None
    last_job: Id | None
    missed: int
    """Number of ticks that got no job because they were late."""
    error: str | None
    """Why its last tick could not be made. It is tried again."""
    failures: int
    created_at: Time
    paused_at: Time | None
    edited_at: Time | None
    """When an operator changed it, so that deploys do not change it. Null: none has."""
    declared_at: Time | None
    """When a worker last declared it."""
    is_declared: bool
    """Whether code declares it, or did."""
    is_orphaned: bool
    """Whether no worker has declared it for five minutes, so that its code may be gone."""
    actor: str | None
    reason: str | None
    words: str
    """When it ticks, in words."""
    next_times: list[Time]
    """Its next five ticks, in its time zone."""


class TickDocument(TypedDict):
    """One tick of a schedule's history."""

    at: Time
    job_id: Id | None
    """The job that it made."""
    outcome: str
    """enqueued; queued or replaced: a job waits for the one before; skipped: that one had not ended; deleted:
    the schedule was, by `actor`."""
    recorded_at: Time
    actor: str | None
    """Who had it run at another time than its own. Null: nobody."""
    reason: str | None


def schedule_document(schedule: Schedule) -> ScheduleDocument:
    """Return a schedule with what is to come of it."""
    return {
        "name": schedule.name,
        "task": schedule.task,
        "queue": schedule.queue,
        "priority": schedule.priority,
        "cron": schedule.cron,
        "every": _number(schedule.every),
        "at": _time(schedule.at),
        "timezone": schedule.timezone,
        "starts_at": _time(schedule.starts_at),
        "ends_at": _time(schedule.ends_at),
        "misfire": schedule.misfire,
        "overlap": schedule.overlap,
        "catch_up": _number(schedule.catch_up),
        "jitter": _number(schedule.jitter),
        "tick_argument": schedule.tick_argument,
        "next_at": _time(schedule.next_at),
        "last_at": _time(schedule.last_at),
        "last_job": None if schedule.last_job is None else str(schedule.last_job),
        "missed": schedule.missed,
        "error": schedule.error,
        "failures": schedule.failures,
        "created_at": schedule.created_at.isoformat(),
        "paused_at": _time(schedule.paused_at),
        "edited_at": _time(schedule.edited_at),
        "declared_at": _time(schedule.declared_at),
        "is_declared": schedule.is_declared,
        "is_orphaned": schedule.is_orphaned,
        "actor": schedule.actor,
        "reason": schedule.reason,
        "words": schedule.words,
        "next_times": [each.isoformat() for each in schedule.next_times],
    }


def tick_document(tick: Tick) -> TickDocument:
    """Return one tick of a history."""
    return {
        "at": tick.at.isoformat(),
        "job_id": None if tick.job_id is None else str(tick.job_id),
        "outcome": tick.outcome,
        "recorded_at": tick.recorded_at.isoformat(),
        "actor": tick.actor,
        "reason": tick.reason,
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _number(stored: float | None) -> float | None:
    # A row may hold anything; JSON cannot.
    return stored if stored is None or math.isfinite(stored) else None
