"""Statements that write new jobs, their lanes and idempotency keys, and processed events."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from pgqueue.model.checks import MAX_INTEGER
from pgqueue.model.jobs import JobStatus
from pgqueue.model.rates import Rate
from pgqueue.store.base import Statements, id_list, text_array, used
from pgqueue.store.values import (
    Hold,
    KeyHolder,
    KeyRow,
    NewJobs,
    Replacement,
    Standing,
    Submitted,
    Template,
)

Gate = tuple[str, str]
"""The name of a limit, and a key."""
NO_GATES: Final[Mapping[UUID, Iterable[Gate]]] = {}

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class LimitedJobs(NamedTuple):
    """Jobs with limits, as they are sent."""

    sql: str
    """The statement that writes them: such jobs need no more."""
    arguments: tuple[Any, ...]


class EnqueueStatements(Statements):
    """Statements that write new jobs, their lanes and idempotency keys, and processed events."""

    async def enqueue(self, connection: Connection, jobs: NewJobs) -> None:
        """Write pending *jobs*. All or nothing."""
        template = _only_template(jobs)
        if template is not None:
            await self.enqueue_one(connection, jobs.ids[0], jobs.documents[0], template)
            return
        await connection.execute(self._sql["enqueue"], *self._new_jobs(jobs))

    async def enqueue_one(
        self, connection: Connection, job_id: UUID, document: str, template: Template
    ) -> None:
        """Write one pending job with the arguments *document*."""
        await connection.execute(self._sql["enqueue_one"], *self._new_job(job_id, document, template))

    def limited_jobs(self, jobs: NewJobs, gates: Mapping[UUID, tuple[Gate, ...]]) -> LimitedJobs:
        """Return *jobs* with limits, given as names and keys, as `enqueue_limited` sends them."""
        # Each combination once: what is made of it costs the server as much as the job.
        combinations: dict[tuple[Gate, ...], int] = {}
        numbers = [combinations.setdefault(gates[job_id], len(combinations) + 1) for job_id in jobs.ids]
        lists = [text_array(chain.from_iterable(each)) for each in combinations]
        # The server would take twice as long.
        first = [_gate_id(*each[0]) for each in combinations]
        template = _only_template(jobs)
        if template is not None:
            given = self._new_job(jobs.ids[0], jobs.documents[0], template)
            return LimitedJobs(self._sql["enqueue_one_limited"], (*given, lists[0], first[0]))
        if len(lists) == 1 and not lists[0].startswith('{"order/'):
            return LimitedJobs(self._sql["enqueue_alike"], (*self._new_jobs(jobs), lists[0], first[0]))
        places = f"{{{','.join(map(str, numbers))}}}" if len(lists) > 1 else None
        given = (*self._new_jobs(jobs), json.dumps(lists), places, f"{{{','.join(first)}}}")
        return LimitedJobs(self._sql["enqueue_limited"], given)

    async def enqueue_limited(self, connection: Connection, jobs: LimitedJobs) -> list[int]:
        """Write *jobs*; return what is to be attended to."""
        notes: list[int] = json.loads(await connection.fetchval(jobs.sql, *jobs.arguments))
        return notes

    async def schedule(self, connection: Connection, jobs: NewJobs) -> dict[UUID, int]:
        """Write *jobs* with a time; return by id the lanes of those that are already due. All or nothing."""
        rows = await connection.fetch(
            self._sql["schedule"],
            *self._new_jobs(jobs),
            [_time(template.run_at) for template in jobs.templates],
            [_seconds(template.delay) for template in jobs.templates],
        )
        return {UUID(row["id"]): int(row["lane"]) for row in rows}

    async def submit(
        self,
        connection: Connection,
        calls: Iterable[tuple[UUID, str, Template]],
        holds: Mapping[UUID, Hold],
        gates: Mapping[UUID, Iterable[Gate]] = NO_GATES,
    ) -> list[Submitted]:
        """Have the function of the tables' owner write new jobs, given with their arguments as JSON.

        *holds*: the idempotency keys that they ask for, by job. All or nothing.
        """
        ranks = {job_id: rank for rank, job_id in enumerate(gates)}
        rows = await connection.fetch(
            self._sql["submit"],
            json.dumps(
                [
                    _submission((job_id, self._document(document), template), holds.get(job_id))
                    | ({"gates": list(gates[job_id]), "rank": ranks[job_id]} if job_id in gates else {})
                    for job_id, document, template in calls
                ]
            ),
        )
        return [
            Submitted(
                UUID(row["id"]),
                row["outcome"],
                row["holder"] and UUID(row["holder"]),
                row["agrees"] == "true",
                row["was"],
                row["now"],
            )
            for row in rows
        ]

    async def count_depth(self, connection: Connection, queue: str, most: int) -> int:
        """Return how many jobs in *queue* are pending and unclaimed, counting to *most*."""
        counted: int = await connection.fetchval(self._sql["count_depth"], queue, most)
        return counted

    async def find_existing(self, connection: Connection, ids: Iterable[UUID]) -> set[UUID]:
        """Return those of *ids* that exist."""
        rows = await connection.fetch(self._sql["find_existing"], id_list(ids))
        return {UUID(row["id"]) for row in rows}

    async def identify(self, connection: Connection) -> tuple[str, str]:
        """Return what no other database has, and the database's name."""
        row = await connection.fetchrow(self._sql["identify"])
        assert row is not None
        return row["identity"], row["name"]

    async def reach_standby(self, connection: Connection) -> None:
        """Wait for a synchronous standby, if there is one, to have all that was committed before.

        For what an earlier try wrote that was cut off while it waited for that: it stands here alone.
        """
        await connection.execute(self._sql["reach_standby"])

    async def learn_lanes(
        self, connection: Connection, lanes: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], int]:
        """Return the ids of *lanes*, given as (queue, priority); make those that are missing or removed."""
        # In one order, because of two processes that make lanes, one waits for the other.
        names = sorted(lanes)
        rows = await connection.fetch(
            self._sql["learn_lanes"], [queue for queue, _ in names], [str(priority) for _, priority in names]
        )
        return {name: int(row["id"]) for name, row in zip(names, rows, strict=True)}

    async def make_lanes(self, connection: Connection, lanes: Iterable[tuple[str, int, str]]) -> None:
        """Make the missing lanes among *lanes*, given as (queue, priority, task)."""
        queues, priorities, tasks = zip(*lanes, strict=True)
        await connection.execute(self._sql["make_lanes"], queues, priorities, tasks)

    async def take_keys(self, connection: Connection, rows: Sequence[KeyRow]) -> set[UUID]:
        """Give free keys, sorted by id, to their jobs; return the ids of these keys."""
        taken = await connection.fetch(self._sql["take_keys"], _key_rows(rows))
        return {UUID(row["id"]) for row in taken}

    async def limit_lock_wait(self, connection: Connection, seconds: float) -> None:
        """Let statements of this transaction wait for a lock for *seconds* at most."""
        # Zero would mean no limit.
        milliseconds = min(max(1, round(seconds * 1000)), MAX_INTEGER)
        await connection.execute(self._sql["limit_lock_wait"], milliseconds)

    async def find_keys(self, connection: Connection, ids: Iterable[UUID]) -> dict[UUID, KeyHolder]:
        """Return the holders of the keys with *ids*."""
        rows = await connection.fetch(self._sql["find_keys"], id_list(ids))
        return {UUID(row["id"]): KeyHolder(UUID(row["job_id"]), row["fingerprint"]) for row in rows}

    async def hand_over_keys(self, connection: Connection, rows: Sequence[KeyRow]) -> None:
        """Give keys, which take_keys has locked, to other jobs."""
        await connection.execute(
            self._sql["hand_over_keys"], _key_rows(rows), id_list(row.id for row in rows)
        )

    async def replace_jobs(
        self, connection: Connection, calls: Iterable[Replacement]
    ) -> dict[UUID, tuple[JobStatus, JobStatus]]:
        """Give jobs that have not started new arguments, as JSON, new templates, and new limits.

        Returns the previous and the present status of those that were changed, by id.
        """
        rows = await connection.fetch(
            self._sql["replace_jobs"],
            json.dumps(
                [
                    {
                        **_call(call.job_id, self._document(call.document), call.template),
                        "gates": list(call.gates),
                        "keeps_time": call.keeps_time,
                    }
                    for call in calls
                ]
            ),
        )
        return {
            UUID(row["id"]): _replaced(JobStatus(row["was"]), is_timed=row["is_timed"] == "true")
            for row in rows
        }

    async def hold_waiting(self, connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Standing]:
        """Lock waiting jobs, so that they start after this transaction; return where each job stands."""
        rows = await connection.fetch(self._sql["hold_waiting"], id_list(ids))
        return {UUID(row["id"]): Standing(row["stands"]) for row in rows}

    async def block_on(self, connection: Connection, others: Mapping[UUID, UUID]) -> None:
        """Block new jobs, each until another one has ended."""
        await connection.execute(self._sql["block_on"], id_list(others.keys()), id_list(others.values()))

    async def declare_limit(
        self, connection: Connection, name: str, slots: int | None, when_full: str, rate: Rate | None
    ) -> None:
        """Declare a limit; what an operator set stays."""
        await connection.execute(
            self._sql["declare_limit"],
            name,
            None if slots is None else str(slots),
            when_full,
            None if rate is None else repr(rate.per_second),
            None if rate is None else str(rate.at_once),
        )

    async def declare_ordered(self, connection: Connection, name: str, on_dead: str) -> None:
        """Declare an ordered group; what an operator set stays."""
        await connection.execute(self._sql["declare_ordered"], name, on_dead)

    async def limit_jobs(self, connection: Connection, gates: Mapping[UUID, Iterable[Gate]]) -> list[int]:
        """Have new jobs wait for their limits, given as names and keys; return what is to be attended to."""
        ids = list(gates)
        found: str | None = await connection.fetchval(
            self._sql["limit_jobs"], id_list(ids), json.dumps([list(gates[each]) for each in ids])
        )
        return [] if found is None else json.loads(found)

    async def note_webhooks(self, connection: Connection, ids: Sequence[UUID]) -> None:
        """Have the ends of new jobs be told, as their options say."""
        await connection.execute(self._sql["note_webhooks"], id_list(ids))

    async def mark_processed(
        self, connection: Connection, source: str, event_id: str, ttl: float, marker: UUID
    ) -> bool:
        """Record that an external event is being processed; return whether it is the first time."""
        is_first = await connection.fetchval(
            self._sql["mark_processed"], source, event_id, repr(ttl), str(marker)
        )
        return bool(is_first == "true")

    def _new_job(self, job_id: UUID, document: str, template: Template) -> tuple[str | None, ...]:
        return (
            str(job_id),
            template.lane[0],
            str(template.lane[1]),
            template.task,
            self._document(document),
            _time(template.expires_at),
            _seconds(template.expires_after),
            template.options,
            template.headers,
            template.tags,
            template.key,
        )

    def _new_jobs(self, jobs: NewJobs) -> tuple[Any, ...]:
        templates = jobs.templates
        return (
            id_list(jobs.ids),
            self._document(f"[{','.join(jobs.documents)}]"),
            f"{{{','.join(map(str, jobs.numbers))}}}" if len(templates) > 1 else None,
            [template.lane[0] for template in templates],
            [str(template.lane[1]) for template in templates],
            [template.task for template in templates],
            used([_time(template.expires_at) for template in templates]),
            used([_seconds(template.expires_after) for template in templates]),
            used([template.options for template in templates]),
            used([template.headers for template in templates]),
            used([template.tags for template in templates]),
            used([template.key for template in templates]),
            used([None if template.lane_id is None else str(template.lane_id) for template in templates]),
        )


def _only_template(jobs: NewJobs) -> Template | None:
    """Return the template of a single job that statements for one can write; None: there are more."""
    if len(jobs.ids) != 1:
        return None
    template = jobs.templates[jobs.numbers[0] - 1]
    return template if template.lane_id is None else None


def _gate_id(name: str, key: str) -> str:
    """Return the id of a gate as `pgqueue.key_id` makes it."""
    return hashlib.sha256(f"{name}\0{key}".encode()).hexdigest()[:32]


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else repr(seconds)


def _key_rows(rows: Iterable[KeyRow]) -> str:
    return json.dumps(
        [
            {
                "id": str(row.id),
                "scope": row.scope,
                "key": row.key,
                "job_id": str(row.job_id),
                "span": row.span,
                "fingerprint": row.fingerprint,
                "window": row.window,
            }
            for row in rows
        ],
        ensure_ascii=False,
    )


def _submission(call: tuple[UUID, str, Template], hold: Hold | None) -> dict[str, Any]:
    made = _call(*call)
    if hold is None:
        return made
    if hold.on_conflict in ("replace", "debounce", "throttle"):
        # What it replaces may have limits.
        made["gates"] = []
    row = hold.row
    key = {
        "scope": row.scope,
        "key": row.key,
        "span": row.span,
        "fingerprint": row.fingerprint,
        "window": row.window,
        "on_conflict": "replace" if hold.on_conflict == "throttle" else hold.on_conflict,
    }
    return {**made, "keeps_time": hold.on_conflict == "throttle", "hold": key}


def _replaced(was: JobStatus, *, is_timed: bool) -> tuple[JobStatus, JobStatus]:
    """Return the previous and the present status of a job; a blocked job stays blocked."""
    if was is JobStatus.BLOCKED:
        return was, was
    return was, JobStatus.SCHEDULED if is_timed else JobStatus.PENDING


def _call(job_id: UUID, document: str, template: Template) -> dict[str, Any]:
    """Return a call as the functions of the database take it."""
    return {
        "job_id": str(job_id),
        "task": template.task,
        "arguments": document,
        "queue": template.lane[0],
        "priority": template.lane[1],
        "run_at": template.run_at and template.run_at.isoformat(),
        "delay": template.delay,
        "expires_at": template.expires_at and template.expires_at.isoformat(),
        "expires_after": template.expires_after,
        "options": template.options,
        "headers": template.headers,
        "tags": template.tags,
        "key": template.key,
        "lane": template.lane_id,
    }
