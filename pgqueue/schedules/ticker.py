"""Makes the jobs of due schedules, in the transaction that holds their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pgqueue.enqueueing.batch import Batch, Call
from pgqueue.enqueueing.idempotency import LOOK_AGAIN, KeyRule
from pgqueue.enqueueing.writer import Writer
from pgqueue.model.checks import some_seconds
from pgqueue.options.checks import OnConflict
from pgqueue.schedules.definition import template_of, timing_as_given, what_of, with_tick
from pgqueue.schedules.gates import TickGate, stored_gates
from pgqueue.schedules.rule import Rule
from pgqueue.schedules.ticks import Due, due
from pgqueue.store import ScheduleRow, Standing, Store
from pgqueue.tasks.codec import Codec, encode_document

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

SCOPE: Final = "schedule"
"""Of the idempotency keys by which jobs of one schedule find each other."""
NO_NOTES: Final[Mapping[str, str | None]] = {}
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def tick_id(secret: UUID, tick: datetime) -> UUID:
    """Return the id of a tick's job: a UUIDv7 of its time, the same for every worker, and for nobody else."""
    at = (tick - _EPOCH) // _MILLISECOND
    digest = hashlib.sha256(f"{secret}\0{tick.isoformat()}".encode()).digest()
    bits = int.from_bytes(digest[:10])
    return UUID(
        int=(max(at, 0) << 80)
        | (7 << 76)
        | ((bits >> 62 & 0xFFF) << 64)
        | (2 << 62)
        | (bits & ((1 << 62) - 1))
    )


def spread(secret: UUID, tick: datetime, jitter: float) -> timedelta:
    """Return by how much a tick's job starts later: up to *jitter* seconds, for all workers the same."""
    digest = hashlib.sha256(f"jitter\0{secret}\0{tick.isoformat()}".encode()).digest()
    return timedelta(seconds=jitter * int.from_bytes(digest[:4]) / 2**32)


@dataclass(slots=True)
class Plan:
    """What the ticks of one schedule come to."""

    row: ScheduleRow
    due: Due
    jobs: list[tuple[datetime, UUID, Call, str]] = field(default_factory=list)
    """Per tick: its job's id, call and arguments."""
    gates: list[TickGate] = field(default_factory=list)
    """What its jobs wait for until they may run."""


def plan(row: ScheduleRow, codec: Codec | None, manual: bool = False) -> Plan:
    """Decide what is due of a schedule. Pure; raises whatever its stored values make impossible."""
    schedule = row.schedule
    given = timing_as_given(schedule)
    rule = Rule.read(what_of(schedule.name), given)
    if manual:
        what_is_due = Due([row.now], 0, schedule.next_at)
    else:
        assert schedule.next_at is not None, "a due schedule without a next tick"
        catch_up = timedelta(seconds=some_seconds("catch_up", schedule.catch_up))
        what_is_due = due(rule, schedule.next_at, row.now, schedule.misfire, catch_up)
    template = template_of(schedule.task, row.template)
    jitter = 0.0 if manual else some_seconds("jitter", schedule.jitter)
    found = Plan(row, what_is_due, gates=stored_gates(row.template))
    for tick in what_is_due.ticks:
        later = spread(row.secret, tick, jitter) + timedelta(seconds=template.delay or 0.0)
        timed = replace(template, delay=None, run_at=tick + later) if later else template
        job_id = tick_id(row.secret, tick)
        call = Call(timed, job_id, raises_on_duplicate=False, key_rule=_key_rule(schedule.overlap))
        found.jobs.append((tick, job_id, call, _document(row, codec, tick)))
    return found


def _document(row: ScheduleRow, codec: Codec | None, tick: datetime) -> str:
    argument = row.schedule.tick_argument
    if argument is None:
        return row.arguments
    document = row.arguments if codec is None else codec.decode(row.arguments)
    return encode_document(codec, with_tick(document, argument, tick))


def _key_rule(overlap: str, on_conflict: OnConflict | None = None) -> KeyRule | None:
    if overlap == "allow":
        return None
    wanted: OnConflict = "return" if overlap == "skip" else "coalesce"
    return KeyRule(SCOPE, "terminal", LOOK_AGAIN, on_conflict or wanted, fingerprint=False)


class Ticker:
    """Makes the jobs of schedules whose rows the caller's transaction has locked."""

    def __init__(self, store: Store, writer: Writer, codec: Codec | None) -> None:
        self.codec = codec
        self._store = store
        self._writer = writer

    async def write(
        self, connection: Connection, plans: Sequence[Plan], notes: Mapping[str, str | None] = NO_NOTES
    ) -> Batch:
        """Write the jobs of *plans*, their history, and next ticks. Raises what the database refuses.

        *notes*: who asked for them and why, for the history.
        """
        waiting = await self._make_room(connection, plans)
        batch = Batch()
        for each in plans:
            name = each.row.schedule.name
            for tick, job_id, call, document in each.jobs:
                if call.key_rule is None:
                    batch.add(call, job_id, document)
                else:
                    rule = _key_rule("queue", "replace") if name in waiting else call.key_rule
                    assert rule is not None
                    keyed = replace(call, key_rule=rule, key=name)
                    batch.add_keyed(keyed, rule, job_id, document, document)
                if each.gates:
                    batch.limit([gate.at(tick) for gate in each.gates], (gate.limit for gate in each.gates))
        batch.close()
        if batch.ids:
            await self._writer.write_within(batch, connection)
        await self._store.record_ticks(connection, _told(plans, batch, notes))
        return batch

    async def _make_room(self, connection: Connection, plans: Iterable[Plan]) -> set[str]:
        """Cancel running jobs that are to be replaced; return the schedules whose last job waits."""
        last = {
            each.row.schedule.last_job: each.row.schedule.name
            for each in plans
            if each.row.schedule.overlap == "replace" and each.jobs and each.row.schedule.last_job
        }
        if not last:
            return set()
        # Locked, so that none of them starts before its arguments are replaced.
        stands = await self._store.hold_waiting(connection, [job_id for job_id in last if job_id is not None])
        running = [job_id for job_id, where in stands.items() if where is Standing.RUNNING]
        await self._store.cancel_jobs(connection, running, "replaced by the next tick of its schedule", None)
        return {last[job_id] for job_id, where in stands.items() if where is Standing.WAITING}


def _told(plans: Iterable[Plan], batch: Batch, notes: Mapping[str, str | None]) -> Iterable[dict[str, Any]]:
    """Return, for each schedule, what is to be noted."""
    made = batch.settlement
    holders = {} if made is None else made.holders
    follows = {} if made is None else made.follows
    replaced = {} if made is None else made.replaced
    taken = {call.job_id for call in batch.keyed.values()}
    for each in plans:
        ticks: list[dict[str, Any]] = []
        last_job: UUID | None = None
        for tick, job_id, call, _ in each.jobs:
            outcome = "enqueued"
            of: UUID | None = job_id
            if (holder := holders.get(job_id)) is not None:
                outcome, of = ("replaced", holder) if holder in replaced else ("skipped", None)
            elif job_id in follows:
                outcome = "queued"
            elif call.key_rule is not None and job_id not in taken:
                # Several ticks at once, of which one job is made.
                outcome, of = "skipped", None
            ticks.append(
                {
                    "at": tick.isoformat(),
                    "job_id": None if of is None else str(of),
                    "outcome": outcome,
                    **notes,
                }
            )
            last_job = last_job if of is None else of
        yield {
            "name": each.row.schedule.name,
            "next_at": each.due.next_at and each.due.next_at.isoformat(),
            "last_at": ticks[-1]["at"] if ticks else None,
            "last_job": None if last_job is None else str(last_job),
            "missed": each.due.missed,
            "ticks": ticks,
        }
