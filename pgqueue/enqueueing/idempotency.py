"""Idempotency keys: which calls are one call, and what becomes of a call whose key is held.

The keys of a batch are taken in the transaction that writes its jobs, in the order of the keys' ids, so that
two batches that share keys cannot wait for each other. Only for keys that are held does a second statement
look up their holders, and each call's `on_conflict` decides what follows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.errors import DuplicateKeyError, IdempotencyConflictError, InvalidOptionError
from pgqueue.events.kinds import JobMoved
from pgqueue.flow.limits import Gate
from pgqueue.model.jobs import JobStatus
from pgqueue.options.checks import OnConflict, Span
from pgqueue.options.levels import Options
from pgqueue.store import KeyHolder, KeyRow, Replacement, Standing, Store, Submitted, Template

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

CHUNK = 2000
"""Keys in one statement."""

LOOK_AGAIN: Final = 3600.0
"""Seconds after which the upkeep looks again whether a job that holds a key has ended."""


_AFTER: Final = {"debounce": "the latest call", "throttle": "the first call"}
"""What the delay of a job counts from."""


@dataclass(frozen=True, slots=True)
class KeyRule:
    """What a call's options say about its key, apart from the key itself."""

    scope: str
    span: Span
    window: float | None
    on_conflict: OnConflict
    fingerprint: bool

    @classmethod
    def of(cls, task: str, options: Options) -> KeyRule | None:
        """Read *options*, all levels merged; None: no key. Raises InvalidOptionError."""
        if options["idempotency_key"] is None:
            return None
        on_conflict: OnConflict = options["on_conflict"]
        if on_conflict in _AFTER and options["delay"] is None:
            raise InvalidOptionError(
                f"task {task!r}: on_conflict={on_conflict!r} starts the job a delay after "
                f"{_AFTER[on_conflict]}; set 'delay', and no 'run_at'"
            )
        span, window = options["idempotency_while"], options["idempotency_window"]
        if on_conflict == "coalesce":
            span = "terminal"
        elif span == "window" and window is None:
            span = "forever"
        scope = options["idempotency_scope"]
        scope = {"task": f"task:{task}", "queue": f"queue:{options['queue']}"}.get(scope, scope)
        return cls(
            scope=scope,
            span=span,
            window=window if span == "window" else None if span == "forever" else LOOK_AGAIN,
            on_conflict=on_conflict,
            fingerprint=options["idempotency_fingerprint"],
        )


def fingerprint_of(task: str, document: str) -> str:
    """Return the digest of a call's task and arguments. How their JSON is written makes no difference."""
    arguments = _CANONICAL.encode(_READER.decode(document))
    return hashlib.sha256(f"{task}\0{arguments}".encode()).hexdigest()


def _number(spelled: str) -> int | float:
    # To JSON, 1.0 and 1 are one number.
    number = float(spelled)
    return int(number) if number.is_integer() else number


_READER: Final = json.JSONDecoder(parse_float=_number)
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def key_id(scope: str, key: str) -> UUID:
    """Return the digest under which a key is stored, as `pgqueue.key_id` makes it."""
    return UUID(bytes=hashlib.sha256(f"{scope}\0{key}".encode()).digest()[:16])


@dataclass(slots=True)
class KeyedCall:
    """The call, or the calls of one batch, that ask for one key, and the job that they would make."""

    id: UUID
    key: str
    job_id: UUID
    rule: KeyRule
    fingerprint: str
    document: str
    template: Template
    places: list[int]
    """Where its calls stand in the batch. Those after the first make no job."""
    replacing: list[int] = field(default_factory=list)
    """Where those of its calls stand that replaced an earlier one."""

    def merge(self, later: KeyedCall) -> bool:
        """Merge a later call of the batch into this one, as if this one's job held the key, not started.

        Returns whether it replaces this one. Raises DuplicateKeyError, IdempotencyConflictError.
        """
        replaces = later.rule.on_conflict in _KINDS["replace"]
        if replaces:
            own = self.template
            self.rule, self.fingerprint = later.rule, later.fingerprint
            self.document, self.template = later.document, later.template
            if later.rule.on_conflict == "throttle":
                self.template = replace(later.template, run_at=own.run_at, delay=own.delay)
            self.replacing += later.places
        else:
            later.check(KeyHolder(self.job_id, self.fingerprint))
        self.places += later.places
        return replaces

    def check(self, holder: KeyHolder) -> None:
        """Raise DuplicateKeyError or IdempotencyConflictError unless this call may be *holder*'s."""
        rule, task = self.rule, self.template.task
        if rule.on_conflict == "raise":
            raise DuplicateKeyError(task, key=self.key, scope=rule.scope, job_id=holder.job_id)
        held = holder.fingerprint
        if rule.fingerprint and held is not None and held != self.fingerprint:
            raise IdempotencyConflictError(
                task,
                key=self.key,
                scope=rule.scope,
                job_id=holder.job_id,
                fingerprint=self.fingerprint,
                held_fingerprint=held,
            )

    def row(self, job_id: UUID) -> KeyRow:
        """Return what is stored of the key when *job_id* has it."""
        rule = self.rule
        fingerprint = self.fingerprint if rule.fingerprint else None
        return KeyRow(self.id, rule.scope, self.key, job_id, rule.span, fingerprint, rule.window)


@dataclass(slots=True)
class Settlement:
    """What became of a batch's keyed calls."""

    holders: dict[UUID, UUID] = field(default_factory=dict)
    """The jobs that hold the keys, by the ids of the jobs that are therefore not made."""
    replaced: dict[UUID, JobMoved] = field(default_factory=dict)
    """The holders that took a call's arguments, by id."""
    follows: dict[UUID, UUID] = field(default_factory=dict)
    """New jobs that wait for another job to end, and that job, by id."""


async def settle(
    store: Store,
    connection: Connection,
    calls: Sequence[KeyedCall],
    gates: Mapping[UUID, Iterable[Gate]],
) -> Settlement:
    """Take the keys of *calls*. For those that are held, do what the calls' `on_conflict` says.

    *gates*: what the jobs of the calls pass. Part of the transaction that writes their jobs. Raises
    DuplicateKeyError, IdempotencyConflictError.
    """
    settlement = Settlement()
    for chunk in _chunks(sorted(calls, key=lambda call: call.id.bytes)):
        taken = await store.take_keys(connection, [call.row(call.job_id) for call in chunk])
        if len(taken) < len(chunk):
            held = [call for call in chunk if call.id not in taken]
            await _settle_held(store, connection, held, gates, settlement)
    return settlement


def settled(calls: Mapping[UUID, KeyedCall], rows: Iterable[Submitted]) -> Settlement:
    """Return what became of *calls*, by the ids of their jobs, which were submitted.

    Raises DuplicateKeyError, IdempotencyConflictError.
    """
    settlement = Settlement()
    for row in rows:
        call = calls.get(row.id)
        if call is None or row.holder is None:
            continue
        match row.outcome:
            case "held":
                # What the holder was enqueued with is not told.
                call.check(KeyHolder(row.holder, call.fingerprint if row.agrees else ""))
                settlement.holders[row.id] = row.holder
            case "replaced":
                assert row.was is not None
                assert row.now is not None
                was, now = JobStatus(row.was), JobStatus(row.now)
                task, queue = call.template.task, call.template.lane[0]
                settlement.holders[row.id] = row.holder
                settlement.replaced[row.holder] = JobMoved(row.holder, task, queue, was, now)
            case "follows":
                settlement.follows[row.id] = row.holder
            case _:
                pass
    return settlement


async def _settle_held(
    store: Store,
    connection: Connection,
    calls: Sequence[KeyedCall],
    gates: Mapping[UUID, Iterable[Gate]],
    settlement: Settlement,
) -> None:
    holders = await store.find_keys(connection, [call.id for call in calls])
    by_policy = {
        policy: [call for call in calls if call.rule.on_conflict in policies]
        for policy, policies in _KINDS.items()
    }
    passed = await _replace(store, connection, by_policy["replace"], gates, holders, settlement)
    passed += await _coalesce(store, connection, by_policy["coalesce"], holders, settlement)
    for call in by_policy["return"]:
        _settle_for(call, holders, settlement)
    if passed:
        await store.hand_over_keys(connection, passed)


_KINDS: Final[Mapping[str, Collection[str]]] = {
    "return": ("return", "raise"),
    "replace": ("replace", "debounce", "throttle"),
    "coalesce": ("coalesce",),
}


def _settle_for(call: KeyedCall, holders: Mapping[UUID, KeyHolder], settlement: Settlement) -> None:
    """Return the holder's job instead of making the call's."""
    holder = holders[call.id]
    call.check(holder)
    settlement.holders[call.job_id] = holder.job_id


async def _replace(
    store: Store,
    connection: Connection,
    calls: Sequence[KeyedCall],
    gates: Mapping[UUID, Iterable[Gate]],
    holders: Mapping[UUID, KeyHolder],
    settlement: Settlement,
) -> list[KeyRow]:
    """Give holders that have not started the calls' arguments and options. Returns the keys' new rows."""
    if not calls:
        return []
    started, rows = [], []
    replaced = await store.replace_jobs(
        connection,
        [
            Replacement(
                holders[call.id].job_id,
                call.document,
                call.template,
                gates.get(call.job_id, ()),
                keeps_time=call.rule.on_conflict == "throttle",
            )
            for call in calls
        ],
    )
    for call in calls:
        job_id = holders[call.id].job_id
        if job_id in replaced:
            settlement.holders[call.job_id] = job_id
            template = call.template
            settlement.replaced[job_id] = JobMoved(job_id, template.task, template.lane[0], *replaced[job_id])
            rows.append(call.row(job_id))
        else:
            started.append(call)
    if started:
        # Since its key was looked up the holder may have started, which can end the hold: ask again.
        taken = await store.take_keys(connection, [call.row(call.job_id) for call in started])
        for call in started:
            if call.id not in taken:
                _settle_for(call, holders, settlement)
    return rows


async def _coalesce(
    store: Store,
    connection: Connection,
    calls: Sequence[KeyedCall],
    holders: Mapping[UUID, KeyHolder],
    settlement: Settlement,
) -> list[KeyRow]:
    """Return holders that wait; make a job that follows a running one. Returns the keys' new rows."""
    if not calls:
        return []
    stands = await store.hold_waiting(connection, [holders[call.id].job_id for call in calls])
    rows = []
    for call in calls:
        holder = holders[call.id]
        match stands[holder.job_id]:
            case Standing.WAITING:
                _settle_for(call, holders, settlement)
                continue
            case Standing.RUNNING:
                settlement.follows[call.job_id] = holder.job_id
            case Standing.OVER:
                pass
        rows.append(call.row(call.job_id))
    return rows


def _chunks(calls: Sequence[KeyedCall]) -> Iterator[Sequence[KeyedCall]]:
    for start in range(0, len(calls), CHUNK):
        yield calls[start : start + CHUNK]
