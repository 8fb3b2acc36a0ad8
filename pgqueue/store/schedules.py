"""Statements on schedules."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from pgqueue.model.schedules import Schedule, ScheduleMeasure, Tick
from pgqueue.model.stored_json import decode_json
from pgqueue.store.base import Statements

if TYPE_CHECKING:
    from asyncpg import Record

    from pgqueue.database.connection import Connection

_SAME: Final = (
    "name",
    "task",
    "cron",
    "every",
    "at",
    "timezone",
    "starts_at",
    "ends_at",
    "misfire",
    "overlap",
    "catch_up",
    "jitter",
    "tick_argument",
    "next_at",
    "last_at",
    "last_job",
    "missed",
    "error",
    "failures",
    "created_at",
    "paused_at",
    "edited_at",
    "declared_at",
    "actor",
    "reason",
)


class ScheduleRow(NamedTuple):
    """A stored schedule, what its jobs are made of, and the database's time when it was read."""

    schedule: Schedule
    secret: UUID
    arguments: str
    template: str
    declared: str | None
    now: datetime


class ScheduleStatements(Statements):
    """Statements on schedules."""

    async def find_next_tick(self, connection: Connection) -> float | None:
        """Return in how many seconds a schedule is due; None: none ever is."""
        found: float | None = await connection.fetchval(self._sql["find_next_tick"])
        return found

    async def take_due(
        self, connection: Connection, limit: int, without: Collection[str], *, has_cron: bool
    ) -> list[ScheduleRow]:
        """Lock due schedules except *without*; without *has_cron*, only those without cron."""
        rows = await connection.fetch(self._sql["take_due"], limit, list(without), has_cron)
        return [_row(row) for row in rows]

    async def lock_schedule(self, connection: Connection, name: str) -> ScheduleRow | None:
        """Lock and read the schedule called *name*."""
        row = await connection.fetchrow(self._sql["lock_schedule"], name)
        return None if row is None else _row(row)

    async def read_schedules(
        self, connection: Connection, names: Sequence[str] | None, after: str, limit: int
    ) -> list[ScheduleRow]:
        """Read schedules by name."""
        return [_row(row) for row in await connection.fetch(self._sql["read_schedules"], names, after, limit)]

    async def read_ticks(self, connection: Connection, name: str, limit: int) -> list[Tick]:
        """Read the latest ticks of a schedule, newest first."""
        return [Tick(*row) for row in await connection.fetch(self._sql["read_ticks"], name, limit)]

    async def measure_schedules(self, connection: Connection) -> ScheduleMeasure:
        """Measure all schedules."""
        row = await connection.fetchrow(self._sql["measure_schedules"])
        assert row is not None
        return ScheduleMeasure(*row)

    async def put_schedule(
        self, connection: Connection, document: Mapping[str, Any], *, may_change: bool, by_operator: bool
    ) -> bool | None:
        """Make or change a schedule; return whether it was made. None: it exists, and may not be changed."""
        made: bool | None = await connection.fetchval(
            self._sql["put_schedule"], self._document(json.dumps(document)), may_change, by_operator
        )
        return made

    async def note_declared(self, connection: Connection, declared: Mapping[str, str | None]) -> None:
        """Note that code declares these schedules, and as what; None: as before."""
        await connection.execute(self._sql["note_declared"], list(declared), list(declared.values()))

    async def record_ticks(self, connection: Connection, ticks: Iterable[Mapping[str, Any]]) -> None:
        """Note how schedules have ticked, and when they do next."""
        await connection.execute(self._sql["record_ticks"], json.dumps(list(ticks)))

    async def set_schedule_aside(self, connection: Connection, name: str, error: str) -> None:
        """Note the error of a schedule, which is looked at again later."""
        await connection.execute(self._sql["set_schedule_aside"], name, error)

    async def pause_schedule(
        self,
        connection: Connection,
        name: str,
        next_at: datetime | None,
        *,
        paused: bool,
        actor: str | None,
        reason: str | None,
    ) -> bool | None:
        """Pause or resume a schedule; False: it is so already; None: there is none."""
        changed: bool | None = await connection.fetchval(
            self._sql["pause_schedule"], name, paused, next_at, actor, reason
        )
        return changed

    async def find_schedule_of(self, connection: Connection, job_id: UUID) -> str | None:
        """Return the name of the schedule that made a job, by its latest ticks."""
        name: str | None = await connection.fetchval(self._sql["find_schedule_of"], job_id)
        return name

    async def delete_schedule(
        self, connection: Connection, name: str, *, actor: str | None, reason: str | None
    ) -> bool:
        """Remove a schedule and its history, but for who asked; return whether there was one."""
        return bool(await connection.fetchval(self._sql["delete_schedule"], name, actor, reason))


def _row(row: Record) -> ScheduleRow:
    template = _decoded(row["template_text"])
    template = template if isinstance(template, dict) else {}
    queue, priority = template.get("queue"), template.get("priority")
    schedule = Schedule(
        **{name: row[name] for name in _SAME},
        arguments=_decoded(row["arguments_text"]),
        queue=queue if isinstance(queue, str) else "",
        priority=priority if isinstance(priority, int) else 0,
        is_declared=row["declared"] is not None,
        is_orphaned=bool(row.get("is_orphaned")),
    )
    return ScheduleRow(
        schedule,
        row["secret"],
        row["arguments_text"],
        row["template_text"],
        row["declared"],
        row["taken_at"],
    )


def _decoded(stored: str) -> Any:
    """Return a stored document; None if it cannot be read: a list shows the others."""
    try:
        return decode_json(stored)
    except (ValueError, RecursionError):
        return None
