"""Jobs on their way to the database: what a call's options say of its job, and a batch of such jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.errors import DuplicateJobError
from pgqueue.options import Options, Unset
from pgqueue.store import NewJobs, Store, Template

if TYPE_CHECKING:
    from pgqueue.database import Connection

CHUNK = 2000
"""Jobs in one statement of a bulk enqueue: longer ones are not faster."""
CHUNK_LENGTH = 16 * 1024 * 1024
"""Characters of arguments in one statement."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a call's options say: its job's template, and what to do about its id."""

    template: Template
    id: UUID | None
    raises_on_duplicate: bool

    @classmethod
    def of(cls, task: str, options: Options, call: Options) -> Call:
        """Read *options*, all levels merged, and those of the *call* itself, which go with the job."""
        assert isinstance(options.queue, str)
        assert isinstance(options.priority, int)
        assert not isinstance(options.delay, Unset)
        run_at, expires = options.run_at, options.expires
        template = Template(
            lane=(options.queue, options.priority),
            task=task,
            run_at=run_at if isinstance(run_at, datetime) else None,
            # A time that the call gives stands against a delay that its task has.
            delay=None if isinstance(run_at, datetime) else options.delay,
            expires_at=expires if isinstance(expires, datetime) else None,
            expires_after=expires if isinstance(expires, float) else None,
            options=call.stored(),
            headers=json.dumps(dict(options.headers))
            if not isinstance(options.headers, Unset) and options.headers
            else None,
            tags=json.dumps(options.tags) if options.tags else None,
            key=options.key if isinstance(options.key, str) else None,
        )
        return cls(
            template=template,
            id=options.id if isinstance(options.id, UUID) else None,
            raises_on_duplicate=options.on_duplicate == "raise",
        )


@dataclass(slots=True)
class Batch:
    """Jobs to be written together, all or none."""

    ids: list[UUID] = field(default_factory=list)
    """Of every call, in order, whether or not its job is to be written."""
    chosen: dict[UUID, bool] = field(default_factory=dict)
    """Ids that callers chose, and whether it is an error if one exists."""
    existing: set[UUID] = field(default_factory=set)
    """Ids that somebody else's jobs had."""
    absent: set[UUID] = field(default_factory=set)
    """Ids that were free when we looked."""
    is_unsure: bool = False
    """Whether the answer of an earlier try was lost: what was free then and exists now is our own."""
    ready: NewJobs = field(default_factory=NewJobs)
    timed: NewJobs = field(default_factory=NewJobs)

    def add(self, call: Call, fresh_id: UUID, document: str) -> None:
        """Add a job with the arguments *document*. Raises DuplicateJobError."""
        job_id = fresh_id
        if call.id is not None:
            job_id = call.id
            is_repeated = job_id in self.chosen
            if is_repeated and call.raises_on_duplicate:
                raise DuplicateJobError(job_id)
            self.chosen[job_id] = call.raises_on_duplicate
            if is_repeated:
                self.ids.append(job_id)
                return
        self.ids.append(job_id)
        jobs = self.timed if call.template.is_timed else self.ready
        jobs.add(job_id, document, call.template)

    @property
    def lanes(self) -> set[tuple[str, int]]:
        """The lanes of all jobs."""
        return {template.lane for jobs in (self.ready, self.timed) for template in jobs.templates}

    @property
    def is_one_statement(self) -> bool:
        """Whether one statement writes it all: the usual case, which needs no transaction around it."""
        return not self.timed.ids and not self.chosen and len(list(chunks(self.ready))) == 1

    async def find_existing(self, store: Store, connection: Connection) -> bool:
        """Take out the jobs that exist; return whether none is left. Raises DuplicateJobError."""
        ids = {*self.ready.ids, *self.timed.ids}
        existing = await store.find_existing(connection, ids)
        others = (existing & self.chosen.keys()) - (self.absent if self.is_unsure else set())
        for job_id in others:
            if self.chosen[job_id]:
                raise DuplicateJobError(job_id)
        self.existing |= others
        self.absent = ids - existing
        self.ready, self.timed = self.ready.without(existing), self.timed.without(existing)
        return not self.ready.ids and not self.timed.ids


def chunks(jobs: NewJobs) -> Iterator[NewJobs]:
    """Cut jobs into what one statement takes."""
    start, length = 0, 0
    for end, document in enumerate(jobs.documents):
        if end > start and (end - start == CHUNK or length + len(document) > CHUNK_LENGTH):
            yield jobs.slice(start, end)
            start, length = end, 0
        length += len(document)
    if jobs.ids:
        yield jobs.slice(start, len(jobs.ids))
