"""Schedules: declared by code, or made, changed and read at run time."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from pgqueue.database.pool import Database
from pgqueue.enqueueing.calls import CallReader
from pgqueue.enqueueing.writer import Writer
from pgqueue.errors import InvalidOptionError, ScheduleExistsError, ScheduleNotFoundError
from pgqueue.model.checks import Duration, check_notes, integer, shown
from pgqueue.model.schedules import Schedule, ScheduleMeasure, Tick
from pgqueue.package import DISTRIBUTION
from pgqueue.schedules.cron import has_cron
from pgqueue.schedules.definition import (
    FIELDS,
    RULE,
    WHEN,
    check_name,
    document_of,
    first_tick,
    timing_as_given,
    timing_of,
    what_of,
)
from pgqueue.schedules.rule import Rule
from pgqueue.schedules.ticker import Ticker, plan
from pgqueue.schedules.ticks import Misfire, Overlap
from pgqueue.store import ScheduleRow, Store
from pgqueue.tasks.codec import Codec
from pgqueue.tasks.signature import Signature
from pgqueue.tasks.task import Task

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.schedules")

T = TypeVar("T", bound=Task[Any, Any])
COMING: Final = 5
"""Ticks that are shown of what is to come."""
MOST: Final = 1000
_OF_DEFINITION: Final = ("task", "arguments", "template", *FIELDS)


@dataclass(frozen=True, slots=True)
class SchedulingParts:
    """What schedules need of a PgQueue."""

    database: Database
    store: Store
    reader: CallReader
    writer: Writer
    codec: Codec | None


class Schedules:
    """The schedules of a PgQueue, as `pgq.schedules`. Who may not change tables may still read them."""

    def __init__(self, parts: Callable[[], SchedulingParts], check_open: Callable[[], None]) -> None:
        self._parts_now = parts
        self._check_open = check_open

    # At run time

    async def create(
        self,
        name: str,
        call: Signature[Any],
        /,
        *,
        cron: str | None = None,
        every: Duration | None = None,
        at: datetime | None = None,
        timezone: str = "UTC",
        misfire: Misfire = "once",
        overlap: Overlap = "allow",
        catch_up: Duration = 86400.0,
        jitter: Duration = 0.0,
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
        tick_argument: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Schedule:
        """Make a schedule that enqueues *call*, such as `report.s(7)`; see `PgQueue.schedule`.

        Its queue and the other options of its jobs are those that *call* has now. Raises InvalidOptionError
        for a rule that never ticks; ScheduleExistsError; InvalidArgumentsError; ConfigurationError if cron
        needs a library that is not installed.
        """
        given = {
            "cron": cron,
            "every": every,
            "at": at,
            "timezone": timezone,
            "misfire": misfire,
            "overlap": overlap,
            "catch_up": catch_up,
            "jitter": jitter,
            "starts_at": starts_at,
            "ends_at": ends_at,
            "tick_argument": tick_argument,
        }
        check_notes("schedules.create", actor=actor, reason=reason)
        parts = self._parts_now()
        document = document_of(parts.reader, name, call, given)
        self._check_open()
        async with parts.database.acquire() as connection, connection.transaction():
            now = await connection.fetchval("select pg_catalog.now()")
            document["next_at"] = first_tick(what_of(name), document, now, is_needed=True)
            made = await parts.store.put_schedule(
                connection,
                {**document, "actor": actor, "reason": reason},
                may_change=False,
                by_operator=True,
            )
        if made is None:
            raise ScheduleExistsError(name)
        return await self.get(name)

    async def edit(
        self,
        name: str,
        /,
        *,
        call: Signature[Any] | None = None,
        actor: str | None = None,
        reason: str | None = None,
        **changes: Any,
    ) -> Schedule:
        """Change a schedule: pass what changes, by the names that `create` has. Others stay.

        Passing one of *cron*, *every* and *at* replaces the others. From then on deploys do not change it,
        although code may declare it otherwise. Raises ScheduleNotFoundError, and what `create` raises.
        """
        check_name(name)
        check_notes("schedules.edit", actor=actor, reason=reason)
        unknown = changes.keys() - set(FIELDS)
        if unknown:
            raise InvalidOptionError(
                f"schedules.edit: unknown {shown(min(unknown))}; allowed: {', '.join(FIELDS)}"
            )
        parts = self._parts_now()
        self._check_open()
        async with parts.database.acquire() as connection, connection.transaction():
            row = await self._lock(connection, name)
            stored = timing_as_given(row.schedule)
            if set(WHEN) & changes.keys():
                stored |= dict.fromkeys(WHEN)
            timing = stored | changes
            if call is not None:
                document = document_of(parts.reader, name, call, timing)
            else:
                if "tick_argument" in changes and changes["tick_argument"] != row.schedule.tick_argument:
                    raise InvalidOptionError("schedules.edit: pass call= as well to change tick_argument")
                same = {"task": row.schedule.task, "arguments": row.arguments, "template": row.template}
                document = {"name": name, **same, **timing_of(what_of(name), timing)}
            if set(RULE) & changes.keys() or row.schedule.next_at is None:
                document["next_at"] = first_tick(what_of(name), document, row.now, is_needed=True)
            else:
                document["next_at"] = row.schedule.next_at.isoformat()
            await parts.store.put_schedule(
                connection, {**document, "actor": actor, "reason": reason}, may_change=True, by_operator=True
            )
        return await self.get(name)

    async def pause(self, name: str, /, *, actor: str | None = None, reason: str | None = None) -> bool:
        """Pause a schedule: it does not tick until it is resumed. False: it was already paused.

        Raises ScheduleNotFoundError.
        """
        return await self._set_paused(name, paused=True, actor=actor, reason=reason)

    async def resume(self, name: str, /, *, actor: str | None = None, reason: str | None = None) -> bool:
        """Resume a schedule at its next tick; what the pause skipped is not made up for. False: it was not.

        Raises ScheduleNotFoundError.
        """
        return await self._set_paused(name, paused=False, actor=actor, reason=reason)

    async def run_now(
        self, name: str, /, *, actor: str | None = None, reason: str | None = None
    ) -> UUID | None:
        """Have a schedule tick now as well, paused or not; return the job's id. None: its overlap forbids it.

        Its history has who asked for it. Raises ScheduleNotFoundError, and InvalidOptionError for
        what is stored wrongly.
        """
        check_name(name)
        check_notes("schedules.run_now", actor=actor, reason=reason)
        parts = self._parts_now()
        self._check_open()
        ticker = Ticker(parts.store, parts.writer, parts.codec)
        async with parts.database.acquire() as connection, connection.transaction():
            row = await self._lock(connection, name)
            batch = await ticker.write(
                connection, [plan(row, parts.codec, manual=True)], {"actor": actor, "reason": reason}
            )
            [tick, *_] = await parts.store.read_ticks(connection, name, 1)
        if batch.notes:
            await parts.writer.attend(batch.notes)
        _log("run", name, actor, reason)
        return tick.job_id

    async def delete(self, name: str, /, *, actor: str | None = None, reason: str | None = None) -> bool:
        """Remove a schedule and its history; its jobs stay. False: there is none.

        If code declares it, the next worker that starts makes it again: pause it, or remove the code. Of its
        history is left who deleted it, for a month or more.
        """
        check_name(name)
        check_notes("schedules.delete", actor=actor, reason=reason)
        parts = self._parts_now()
        self._check_open()
        async with parts.database.acquire() as connection:
            deleted = await parts.store.delete_schedule(connection, name, actor=actor, reason=reason)
        if deleted:
            _log("deleted", name, actor, reason)
        return deleted

    async def get(self, name: str, /) -> Schedule:
        """Return one schedule. Raises ScheduleNotFoundError."""
        check_name(name)
        found = await self._read([name], "", 1)
        if not found:
            raise ScheduleNotFoundError(name)
        return found[0]

    async def list(self, *, after: str = "", limit: int = 100) -> builtins.list[Schedule]:
        """Return schedules by name, those after name *after*. *limit*: from 1 to 1000."""
        integer("schedules.list: limit", limit, least=1, most=MOST)
        if after:
            check_name(after)
        return await self._read(None, after, limit)

    async def history(self, name: str, /, *, limit: int = 100) -> tuple[Tick, ...]:
        """Return the latest ticks of a schedule, newest first. The latest hundred are kept.

        Of a schedule that was deleted: who did it.
        """
        check_name(name)
        integer("schedules.history: limit", limit, least=1, most=MOST)
        parts = self._parts_now()
        self._check_open()
        async with parts.database.acquire() as connection:
            return tuple(await parts.store.read_ticks(connection, name, limit))

    async def measure(self) -> ScheduleMeasure:
        """Return how schedules stand: what metrics show."""
        parts = self._parts_now()
        self._check_open()
        async with parts.database.acquire() as connection:
            return await parts.store.measure_schedules(connection)

    # Reading

    async def _read(
        self, names: builtins.list[str] | None, after: str, limit: int
    ) -> builtins.list[Schedule]:
        parts = self._parts_now()
        self._check_open()
        async with parts.database.acquire() as connection:
            rows = await parts.store.read_schedules(connection, names, after, limit)
        return [self._shown(row) for row in rows]

    def _shown(self, row: ScheduleRow) -> Schedule:
        schedule = row.schedule
        try:
            rule = Rule.read(what_of(schedule.name), timing_as_given(schedule))
            coming = () if schedule.next_at is None else rule.coming(row.now, COMING)
        except Exception:
            # A row may hold anything, or cron needs a library that this process does not have.
            return replace(schedule, words=_plain_words(schedule))
        return replace(schedule, words=rule.words, next_times=coming)

    async def _lock(self, connection: Connection, name: str) -> ScheduleRow:
        row = await self._parts_now().store.lock_schedule(connection, name)
        if row is None:
            raise ScheduleNotFoundError(name)
        return row

    async def _set_paused(self, name: str, *, paused: bool, actor: str | None, reason: str | None) -> bool:
        check_name(name)
        check_notes("schedules.pause" if paused else "schedules.resume", actor=actor, reason=reason)
        parts = self._parts_now()
        self._check_open()
        async with parts.database.acquire() as connection, connection.transaction():
            row = await self._lock(connection, name)
            next_at = row.schedule.next_at
            if not paused:
                rule = Rule.read(what_of(name), timing_as_given(row.schedule))
                next_at = rule.next_after(row.now)
            changed = await parts.store.pause_schedule(
                connection, name, next_at, paused=paused, actor=actor, reason=reason
            )
        return bool(changed)


def _log(what: str, name: str, actor: str | None, reason: str | None) -> None:
    """Log what an operator did, for those who read logs and not the history."""
    by = "" if actor is None else f" by {actor}"
    logger.info("schedule %r was %s%s%s", name, what, by, "" if reason is None else f": {reason}")


def _plain_words(schedule: Schedule) -> str:
    if schedule.cron is not None:
        need = "" if has_cron() else f"; {DISTRIBUTION}[schedules] is not installed here"
        return f"{schedule.cron} ({schedule.timezone}{need})"
    return ""
