"""Jobs on their way to the database: what a call's options say about its job, and a batch of such jobs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.enqueueing.idempotency import KeyedCall, KeyRule, Settlement, fingerprint_of, key_id, settle
from pgqueue.errors import DuplicateJobError
from pgqueue.events.kinds import JobMoved
from pgqueue.flow.limits import Gate, Limit, LimitBy, gates_of
from pgqueue.flow.ordering import Ordered
from pgqueue.model.jobs import JobStatus
from pgqueue.model.webhooks import KEY
from pgqueue.options.levels import Options
from pgqueue.store import NewJobs, Store, Template

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

CHUNK = 2000
"""Jobs in one statement of a bulk enqueue: longer ones are not faster."""
CHUNK_LENGTH = 16 * 1024 * 1024
"""Characters of arguments in one statement."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a call's options say: its job's template, and what to do about its id and its idempotency key."""

    template: Template
    id: UUID | None
    raises_on_duplicate: bool
    key_rule: KeyRule | None = None
    key: str | None = None
    """The idempotency key. None: there is none, or the arguments are it."""
    depends_on: tuple[UUID, ...] = ()
    allow_failure: bool = False
    limits: tuple[LimitBy, ...] = ()
    """What its job waits for until it may run."""
    is_plain: bool = field(init=False)
    """Whether its job can run now, with a fresh id, no idempotency key, no limits and no dependencies."""
    is_simple: bool = field(init=False)
    """Whether it has neither an idempotency key nor a limit."""
    gates: tuple[Gate, ...] = field(init=False, default=())
    """What its job passes, if its arguments do not matter."""

    def __post_init__(self) -> None:
        """Work out what every enqueue asks for."""
        is_plain = self.id is None and self.key_rule is None and not self.template.is_timed
        is_plain = is_plain and not self.depends_on and not self.limits and not self.template.has_webhooks
        object.__setattr__(self, "is_simple", self.key_rule is None and not self.limits)
        object.__setattr__(self, "is_plain", is_plain)
        if self.limits and all(each.key is None for each in self.limits):
            gates = tuple(dict.fromkeys(each.gate(self.template.task, {}) for each in self.limits))
            object.__setattr__(self, "gates", gates)

    @classmethod
    def of(cls, task: str, options: Options, call: Options, limits: tuple[LimitBy, ...] = ()) -> Call:
        """Read *options*, all levels merged, and those of the *call* itself, which go with the job.

        Raises InvalidOptionError.
        """
        run_at, expires = options["run_at"], options["expires"]
        key = options["idempotency_key"]
        template = Template(
            lane=(options["queue"], options["priority"]),
            task=task,
            run_at=run_at,
            # A time that the call gives stands against a delay that its task has.
            delay=options["delay"] if run_at is None else None,
            expires_at=expires if isinstance(expires, datetime) else None,
            expires_after=expires if isinstance(expires, float) else None,
            options=_stored(options, call),
            headers=json.dumps(options["headers"]) if options["headers"] else None,
            tags=json.dumps(options["tags"], ensure_ascii=False) if options["tags"] else None,
            key=options["key"],
        )
        return cls(
            template=template,
            id=options["id"],
            raises_on_duplicate=options["on_duplicate"] == "raise",
            key_rule=KeyRule.of(task, options),
            key=key if isinstance(key, str) else None,
            depends_on=options["depends_on"],
            allow_failure=options["allow_failure"],
            limits=limits,
        )

    def alike(self, call: Options) -> Call:
        """Return this for another *call* of the same kind (`Options.kind`)."""
        key = call.get("idempotency_key")
        return Call(
            self.template,
            call.get("id"),
            self.raises_on_duplicate,
            self.key_rule,
            key if isinstance(key, str) else self.key,
            self.depends_on,
            self.allow_failure,
            self.limits,
        )


def _stored(options: Options, call: Options) -> str | None:
    """Return what is stored of options: those of the *call* itself, and whom to tell of the end."""
    stored = call.stored()
    if not options["webhooks"]:
        return stored
    told = [webhook.document() for webhook in options["webhooks"]]
    return json.dumps({**json.loads(stored or "{}"), KEY: told})


@dataclass(slots=True)
class Batch:
    """Jobs to be written together, all or none."""

    ids: list[UUID] = field(default_factory=list)
    """One for each call, in order, whether or not its job is written."""
    chosen: dict[UUID, bool] = field(default_factory=dict)
    """Ids that callers chose, and whether it is an error if the id exists."""
    existing: set[UUID] = field(default_factory=set)
    """Ids that jobs of other calls already had."""
    absent: set[UUID] = field(default_factory=set)
    """Ids that were free when they were looked up."""
    is_unsure: bool = False
    """Whether the answer to an earlier try was lost: an id that was free then and exists now is our own."""
    ready: NewJobs = field(default_factory=NewJobs)
    timed: NewJobs = field(default_factory=NewJobs)
    keyed: dict[UUID, KeyedCall] = field(default_factory=dict)
    """Calls with idempotency keys, by the ids of those."""
    found: set[UUID] = field(default_factory=set)
    """Ids that exist, including our own from an earlier try: their keys are not taken again."""
    settlement: Settlement | None = None
    """What became of the keyed calls in the latest try."""
    written: list[JobMoved] = field(default_factory=list)
    """Jobs that an earlier try had made, although its answer was lost."""
    gates: dict[UUID, tuple[Gate, ...]] = field(default_factory=dict)
    """What jobs wait for until they may run."""
    limits: set[Limit] = field(default_factory=set)
    """The limits of those."""
    _limited: tuple[LimitBy, ...] = ()
    """The limits of the last call that had any."""
    notes: list[int] = field(default_factory=list)
    """What is to be attended to once they are written."""
    due: set[UUID] = field(default_factory=set)
    """The timed jobs whose time had come when they were written."""

    def add(self, call: Call, fresh_id: UUID, document: str) -> bool:
        """Add a job with the arguments *document*; False: an earlier call has. Raises DuplicateJobError."""
        job_id = fresh_id
        if call.id is not None:
            job_id = call.id
            is_repeated = job_id in self.chosen
            if is_repeated and call.raises_on_duplicate:
                raise DuplicateJobError(job_id)
            self.chosen[job_id] = call.raises_on_duplicate
            if is_repeated:
                self.ids.append(job_id)
                return False
        self.ids.append(job_id)
        jobs = self.timed if call.template.is_timed else self.ready
        jobs.add(job_id, document, call.template)
        return True

    def add_keyed(self, call: Call, rule: KeyRule, fresh_id: UUID, document: str, stored: str) -> bool:
        """Add a job with an idempotency key: the arguments *document* are *stored* so.

        False: an earlier call of the batch has, and this one does not replace it. Raises DuplicateJobError,
        DuplicateKeyError, IdempotencyConflictError.
        """
        if call.id is not None and call.id in self.chosen:
            return self.add(call, fresh_id, stored)
        fingerprint = fingerprint_of(call.template.task, document)
        key = fingerprint if call.key is None else call.key
        keyed = KeyedCall(
            key_id(rule.scope, key),
            key,
            fresh_id if call.id is None else call.id,
            rule,
            fingerprint,
            stored,
            call.template,
            [len(self.ids)],
        )
        first = self.keyed.setdefault(keyed.id, keyed)
        is_its = first is keyed
        if is_its:
            if call.id is not None:
                self.chosen[call.id] = call.raises_on_duplicate
        elif first.merge(keyed):
            is_its = True
            self.gates.pop(first.job_id, None)
        self.ids.append(first.job_id)
        return is_its

    def add_limits(self, call: Call, document: str, defaults: Mapping[str, object]) -> None:
        """Have the job that was added last wait for the call's limits. Raises InvalidArgumentsError."""
        gates = call.gates or gates_of(call.limits, call.template.task, document, defaults)
        self.gates[self.ids[-1]] = gates
        if call.limits is not self._limited:
            # In most bulk calls all jobs share them.
            self._limited = call.limits
            self.limits.update(each.limit for each in call.limits)

    def limit(self, gates: Iterable[Gate], limits: Iterable[Limit]) -> None:
        """Have the job that was added last pass *gates*, which are those of *limits*."""
        self.gates[self.ids[-1]] = tuple(dict.fromkeys(gates))
        self.limits.update(limits)

    def close(self) -> None:
        """Add the jobs of keyed calls, which later calls of the batch could change until now."""
        for call in self.keyed.values():
            jobs = self.timed if call.template.is_timed else self.ready
            jobs.add(call.job_id, call.document, call.template)

    async def settle_keys(self, store: Store, connection: Connection) -> Settlement:
        """Take keys for the jobs to be written; for keys that are held, do what `on_conflict` says.

        Raises DuplicateKeyError, IdempotencyConflictError.
        """
        calls = [call for call in self.keyed.values() if call.job_id not in self.found]
        self.settlement = await settle(store, connection, calls, self.gates)
        return self.settlement

    def name_lanes(self, lanes: Mapping[tuple[str, int], int]) -> None:
        """Have its jobs written to the lanes with these ids: the transaction may not see the lanes."""
        for jobs in (self.ready, self.timed):
            jobs.templates = [replace(each, lane_id=lanes[each.lane]) for each in jobs.templates]
        for call in self.keyed.values():
            call.template = replace(call.template, lane_id=lanes[call.template.lane])

    def handled(self) -> list[tuple[UUID, bool, bool]]:
        """Return, for each call, its job, whether it created that job, and whether it replaced another call.

        For a batch with chosen ids or idempotency keys. In any other batch each call created a job.
        """
        settlement = self.settlement or Settlement()
        replacing = {place for call in self.keyed.values() for place in call.replacing}
        seen = set(self.existing)
        handled = []
        for place, job_id in enumerate(self.ids):
            holder = settlement.holders.get(job_id)
            if holder is not None:
                handled.append((holder, False, holder in settlement.replaced))
                continue
            handled.append((job_id, job_id not in seen, place in replacing))
            seen.add(job_id)
        return handled

    def ready_by_queue(self) -> Mapping[str, int]:
        """Return how many jobs that can run now are to be written to each queue."""
        counts: Counter[str] = Counter()
        for number, count in Counter(self.ready.numbers).items():
            counts[self.ready.templates[number - 1].lane[0]] += count
        return counts

    def created_by_task(self) -> Mapping[tuple[str, str], int]:
        """Return how many jobs were made of each task and queue."""
        settled = self.settlement.holders if self.settlement is not None else {}
        counts: Counter[tuple[str, str]] = Counter()
        for given in (self.ready, self.timed):
            jobs = given.without(settled) if settled else given
            for number, count in Counter(jobs.numbers).items():
                template = jobs.templates[number - 1]
                counts[template.task, template.lane[0]] += count
        counts.update((job.task, job.queue) for job in self.written)
        return counts

    def created_jobs(self) -> list[JobMoved]:
        """Return each job that was made, and where it waits."""
        settlement = self.settlement or Settlement()
        made = [*self.written]
        for given, status in ((self.ready, JobStatus.PENDING), (self.timed, JobStatus.SCHEDULED)):
            jobs = given.without(settlement.holders) if settlement.holders else given
            for job_id, number in zip(jobs.ids, jobs.numbers, strict=True):
                template = jobs.templates[number - 1]
                now = JobStatus.PENDING if job_id in self.due else status
                now = JobStatus.BLOCKED if job_id in settlement.follows else now
                if job_id in self.gates and now is JobStatus.PENDING:
                    now = JobStatus.BLOCKED
                made.append(JobMoved(job_id, template.task, template.lane[0], None, now))
        return made

    @property
    def replaced_jobs(self) -> list[JobMoved]:
        """Each job that took a call's arguments and options because it holds that call's idempotency key."""
        return [] if self.settlement is None else list(self.settlement.replaced.values())

    @property
    def lanes(self) -> set[tuple[str, int]]:
        """The lanes of all jobs."""
        return {template.lane for jobs in (self.ready, self.timed) for template in jobs.templates}

    @property
    def has_parts(self) -> bool:
        """Whether its jobs can run now, have fresh ids and no keys: then they can be written in any parts."""
        return not (self.timed.ids or self.chosen or self.keyed or self.has_webhooks)

    @property
    def has_webhooks(self) -> bool:
        """Whether the end of any of its jobs is to be told."""
        return any(each.has_webhooks for jobs in (self.ready, self.timed) for each in jobs.templates)

    def told(self, *written: NewJobs) -> list[UUID]:
        """Return those of the *written* jobs whose end is to be told."""
        return [
            job_id
            for jobs in written
            for job_id, number in zip(jobs.ids, jobs.numbers, strict=True)
            if jobs.templates[number - 1].has_webhooks
        ]

    def split(self, jobs: NewJobs, others: Collection[UUID] = ()) -> tuple[NewJobs, NewJobs]:
        """Return those of *jobs* that have limits and are not among *others*, and the rest of them."""
        gates = self.gates
        if not gates:
            return NewJobs(), jobs
        if len(gates) == len(self.ids) and not others:
            return jobs, NewJobs()
        limited = {job_id for job_id in jobs.ids if job_id in gates and job_id not in others}
        return jobs.without([job_id for job_id in jobs.ids if job_id not in limited]), jobs.without(limited)

    @property
    def is_in_order(self) -> bool:
        """Whether its jobs can be written with their limits at once, as far as they have an order."""
        return not (self.timed.ids or self.keyed) or not any(
            isinstance(each, Ordered) for each in self.limits
        )

    @property
    def is_one_statement(self) -> bool:
        """Whether one statement writes it all: the usual case, which needs no transaction around it."""
        documents = self.ready.documents
        if not self.has_parts or len(self.gates) not in (0, len(documents)) or not documents:
            return False
        return len(documents) == 1 or (len(documents) <= CHUNK and sum(map(len, documents)) <= CHUNK_LENGTH)

    async def find_existing(self, store: Store, connection: Connection) -> bool:
        """Remove the jobs that exist already; return whether none is left. Raises DuplicateJobError."""
        ids = {*self.ready.ids, *self.timed.ids}
        existing = await store.find_existing(connection, ids)
        others = (existing & self.chosen.keys()) - (self.absent if self.is_unsure else set())
        for job_id in others:
            if self.chosen[job_id]:
                raise DuplicateJobError(job_id)
        own = existing - others
        if own:
            self.written += [job for job in self.created_jobs() if job.job_id in own]
        self.existing |= others
        self.absent = ids - existing
        self.found |= existing
        self.ready, self.timed = self.ready.without(existing), self.timed.without(existing)
        return not self.ready.ids and not self.timed.ids


def chunks(jobs: NewJobs) -> Iterator[NewJobs]:
    """Split jobs into parts that one statement takes."""
    start, length = 0, 0
    for end, document in enumerate(jobs.documents):
        if end > start and (end - start == CHUNK or length + len(document) > CHUNK_LENGTH):
            yield jobs.slice(start, end)
            start, length = end, 0
        length += len(document)
    if jobs.ids:
        yield jobs.slice(start, len(jobs.ids))
