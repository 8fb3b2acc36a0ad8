"""What `pgqueue schedules` says of a schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pgqueue import Schedule
from pgqueue.cli.output import known, say
from pgqueue.model.figures import duration, moment
from pgqueue.model.schedule_documents import schedule_document


def describe(schedule: Schedule) -> Iterator[str]:
    """Yield the lines that show a schedule, except those that say nothing."""
    shown: dict[str, Any] = {
        "schedule": schedule.name,
        "state": ", ".join(schedule.states),
        "when": schedule.words,
        "task": schedule.task,
        "queue": schedule.queue,
        "priority": str(schedule.priority),
        "next": ", ".join(each.isoformat() for each in schedule.next_times),
        "last": known(moment, schedule.last_at),
        "last job": known(str, schedule.last_job),
        "misfire": f"{schedule.misfire}, {schedule.missed} missed",
        "overlap": schedule.overlap,
        "jitter": duration(schedule.jitter) if schedule.jitter else "",
        "error": schedule.error,
        "changed by": schedule.actor,
        "reason": schedule.reason,
    }
    return (f"{what + ':':<12}{value}" for what, value in shown.items() if value)


def say_next(schedule: Schedule, *, as_json: bool) -> None:
    """Say when a schedule ticks that was made or changed."""
    when = known(moment, schedule.next_at) or "never"
    text = f"schedule {schedule.name!r}: {schedule.words}; next tick: {when}"
    say(as_json, schedule_document(schedule), text)


def report(name: str, what: str, changed: bool, schedule: Schedule | None = None, *, as_json: bool) -> None:
    """Say what became of an operation. *schedule*: as it is now; None: it is gone."""
    now: Mapping[str, Any] = {} if schedule is None else schedule_document(schedule)
    say(as_json, {**now, "schedule": name, "changed": changed}, f"{what}: schedule {name!r}")
