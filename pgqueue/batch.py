"""Jobs on their way to the database: what a call's options say of its job, and a batch of such jobs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.errors import DuplicateJobError
from pgqueue.options import Options, Unset
from pgqueue.store import NewJob, Store

if TYPE_CHECKING:
    from pgqueue.database import Connection

CHUNK = 2000
"""Jobs in one statement of a bulk enqueue: longer ones are not faster."""


@dataclass(frozen=True, slots=True)
class Template:
    """All of a job but its id and arguments."""

    id: UUID | None
    raises_on_duplicate: bool
    lane: tuple[str, int]
    task: str
    run_at: datetime | None
    delay: float | None
    expires_at: datetime | None
    expires_after: float | None
    options: str | None
    headers: str | None
    tags: str | None
    key: str | None

    @classmethod
    def of(cls, task: str, options: Options, call: Options) -> Template:
        """Make the template of *task*'s jobs from *options*, all levels merged, and those of the *call*."""
        assert isinstance(options.queue, str)
        assert isinstance(options.priority, int)
        assert not isinstance(options.delay, Unset)
        run_at, expires, stored = options.run_at, options.expires, call.stored()
        return cls(
            id=options.id if isinstance(options.id, UUID) else None,
            raises_on_duplicate=options.on_duplicate == "raise",
            lane=(options.queue, options.priority),
            task=task,
            run_at=run_at if isinstance(run_at, datetime) else None,
            # A time that the call gives stands against a delay that its task has.
            delay=None if isinstance(run_at, datetime) else options.delay,
            expires_at=expires if isinstance(expires, datetime) else None,
            expires_after=expires if isinstance(expires, float) else None,
            options=json.dumps(stored) if stored else None,
            headers=json.dumps(dict(options.headers))
            if isinstance(options.headers, dict) and options.headers
            else None,
            tags=json.dumps(options.tags) if options.tags else None,
            key=options.key if isinstance(options.key, str) else None,
        )


@dataclass(slots=True)
class Batch:
    """Jobs to be written together."""

    jobs: list[NewJob] = field(default_factory=list)
    ids: list[UUID] = field(default_factory=list)
    """Of every call, in order; `jobs` has each id once."""
    lanes: set[tuple[str, int]] = field(default_factory=set)
    chosen: dict[UUID, bool] = field(default_factory=dict)
    """Ids that callers chose, and whether it is an error if one exists."""
    existing: set[UUID] = field(default_factory=set)
    has_timed: bool = False

    def add(self, template: Template, fresh_id: UUID, arguments: str) -> None:
        """Add a job."""
        job_id = fresh_id if template.id is None else template.id
        self.ids.append(job_id)
        if template.id is not None:
            if job_id in self.chosen:
                if template.raises_on_duplicate:
                    raise DuplicateJobError(job_id)
                return
            self.chosen[job_id] = template.raises_on_duplicate
        job = NewJob(
            job_id,
            template.lane,
            template.task,
            arguments,
            template.run_at,
            template.delay,
            template.expires_at,
            template.expires_after,
            template.options,
            template.headers,
            template.tags,
            template.key,
        )
        self.jobs.append(job)
        self.lanes.add(template.lane)
        self.has_timed = self.has_timed or job.is_timed

    @property
    def is_one_statement(self) -> bool:
        """Whether one statement writes it all: the usual case, which needs no transaction around it."""
        return not self.has_timed and not self.chosen and len(self.jobs) <= CHUNK

    async def find_existing(self, store: Store, connection: Connection) -> bool:
        """Take out the jobs that exist; return whether none is left. Raises DuplicateJobError."""
        existing = await store.find_existing(connection, [job.id for job in self.jobs])
        for job_id in existing:
            if self.chosen.get(job_id):
                raise DuplicateJobError(job_id)
        self.existing |= existing & self.chosen.keys()
        self.jobs = [job for job in self.jobs if job.id not in existing]
        return not self.jobs
