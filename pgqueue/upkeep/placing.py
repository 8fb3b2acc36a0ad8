"""Finds rows that fit nowhere, and puts them right: after a partial restore, or the hands of an operator.

A job that has not ended stands in one place; its lane and its lease exist; a place is that of a job that has
not ended. A job goes from place to place within one statement, so a snapshot that shows anything else has
found a fault. Still nothing is changed before it was seen twice, some time apart.

One worker at a time walks through all ids, a few at a time. What it finds:

* `no_lease`: running under a lease that was removed. The lease is made again as an expired one, so that its
  jobs are rescued.
* `no_place`: a job that stands nowhere. It returns to its queue, or to the scheduled ones. Where its task
  runs at most once, it has failed: nobody knows whether it was started.
* `two_places`, `ended`, `no_record`: places that are one too many are removed.
* `no_lane`: nobody knows its queue any more. The job has failed, and can be redriven to a queue.

Sequences that are behind their tables, because a failover did not bring them along, are advanced.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable
from typing import Final
from uuid import UUID

from pgqueue.database.failing import log_fields, statement_of
from pgqueue.database.outages import is_away, told
from pgqueue.events.kinds import StraysFound, WorkErrorIsolated
from pgqueue.model.ids import new_id
from pgqueue.model.job_error import JobError
from pgqueue.tasks.registry import Registry
from pgqueue.upkeep.broken_rows import REASON
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

logger = logging.getLogger("pgqueue.worker")

FIRST_PASS: Final = 5.0
"""Seconds after its start before a worker first looks: one that runs only a few jobs need not."""
STEP: Final = 1000
"""Ids in one step."""
STEP_PAUSE: Final = 2.0
"""Minimum seconds between two steps."""
STEP_SHARE: Final = 50
"""A step is followed by a pause of this many times its own length, and so is a pass."""
REST: Final = 60.0
"""Minimum seconds between two passes."""
GRACE: Final = 10.0
"""Seconds after which a fault that was seen has to be there still."""
LEASE_GRACE: Final = 15.0
"""The same for a lease, or the time of this worker's own if that is longer: within a third of it one that
lives finds that it has none any more, and stops its attempts."""
SHOWN: Final = 10
"""Ids in one log line."""
CHORE: Final = "find strays"
CHORE_TTL: Final = 120.0
"""Seconds after which another worker may take over from one that no longer reports."""
FIRST_ID: Final = UUID(int=0)


class Placing(Chore):
    """Puts rows right that fit nowhere."""

    name = "finding rows that fit nowhere"

    def __init__(self, tools: Tools, registry: Registry, lease_ttl: float) -> None:
        super().__init__()
        self._lease_grace = max(LEASE_GRACE, lease_ttl)
        self._tools = tools
        self._registry = registry
        self._id = new_id()
        self._after = FIRST_ID
        self._began_at = time.monotonic()
        self._suspects: dict[UUID, tuple[str, float]] = {}
        """What was seen once, with the monotonic time from which on it may be acted upon."""
        self._leases: dict[UUID, float] = {}
        """Leases that jobs run under and that there are not, with the time when that was seen first."""
        self.due_at = time.monotonic() + FIRST_PASS

    def forget(self) -> None:
        """See Chore."""
        self._suspects.clear()
        self._leases.clear()

    async def run(self) -> float:
        """Look at the next ids, and again at what was seen some time ago."""
        tools = self._tools
        started_at = time.monotonic()
        if await self._is_part_hidden():
            return REST
        await self._remake_leases()
        if self._suspects:
            await self._look_again(started_at)
        async with tools.link.use() as connection:
            if not await tools.store.take_chore(connection, CHORE, self._id, CHORE_TTL):
                # Another worker walks. What this one has seen it still acts upon.
                return TICK if self._suspects or self._leases else REST / 6
            if self._after == FIRST_ID and (behind := await tools.store.advance_ids(connection)):
                logger.warning("sequences were behind their tables, and were advanced: %s", ", ".join(behind))
            ids = await tools.store.walk_ids(connection, self._after, STEP)
            strays = await tools.store.find_strays(connection, ids)
        now = time.monotonic()
        for job_id, kind in strays.items():
            self._suspects.setdefault(job_id, (kind, now + GRACE))
        if len(ids) == STEP:
            self._after = ids[-1]
            return max(STEP_PAUSE, STEP_SHARE * (now - started_at))
        if self._suspects:
            # The pass ends when they are dealt with.
            self._after = ids[-1] if ids else self._after
            return TICK
        self._after = FIRST_ID
        rest = max(REST, STEP_SHARE * (now - self._began_at))
        async with tools.link.use() as connection:
            await tools.store.end_chore(connection, CHORE, self._id, rest)
        self._began_at = now + rest
        return TICK if self._leases else REST / 6

    async def _is_part_hidden(self) -> bool:
        """Whether row-level security may hide rows from this role: what it hides is not missing."""
        async with self._tools.link.use() as connection:
            hidden = await self._tools.store.find_hidden(connection)
        if hidden:
            logger.warning(
                "row-level security may hide rows from this role, in %s; jobs that it hides are not run",
                ", ".join(hidden),
            )
        return bool(hidden)

    async def _remake_leases(self) -> None:
        tools, now = self._tools, time.monotonic()
        async with tools.link.use() as connection:
            missing = await tools.store.find_missing_leases(connection)
            self._leases = {lease_id: self._leases.get(lease_id, now) for lease_id in missing}
            due = [lease_id for lease_id, seen in self._leases.items() if now - seen >= self._lease_grace]
            if not due:
                return
            await tools.store.remake_leases(connection, due)
        logger.error("leases were removed while jobs ran under them; rescuing the jobs of %s", _some(due))
        tools.observers.emit(StraysFound("no_lease", due))

    async def _look_again(self, now: float) -> None:
        """Put right what is as it was when it was seen."""
        due = [job_id for job_id, (_, at) in self._suspects.items() if at <= now][:STEP]
        if not due:
            return
        tools = self._tools
        async with tools.link.use() as connection:
            still = await tools.store.find_strays(connection, due)
        seen = {job_id: self._suspects.pop(job_id)[0] for job_id in due}
        by_kind: dict[str, list[UUID]] = {}
        for job_id, kind in still.items():
            if seen[job_id] == kind:
                by_kind.setdefault(kind, []).append(job_id)
        for kind, ids in by_kind.items():
            try:
                await self._put_right(kind, ids)
            except Exception as error:
                if is_away(error):
                    raise
                # At one of them, perhaps.
                for job_id in ids:
                    await self._put_one_right(kind, job_id)

    async def _put_one_right(self, kind: str, job_id: UUID) -> None:
        try:
            await self._put_right(kind, [job_id])
        except Exception as error:
            if is_away(error):
                raise
            logger.error(  # what fails is a statement: its stack says nothing
                "row %s fits nowhere (%s) and cannot be put right (%s); the next pass tries again",
                job_id,
                kind,
                told(error),
                extra=log_fields(error),
            )
            self._tools.observers.emit(
                WorkErrorIsolated(self.name, type(error).__name__, statement=statement_of(error))
            )

    async def _put_right(self, kind: str, ids: Collection[UUID]) -> None:
        tools, store = self._tools, self._tools.store
        match kind:
            case "no_place":
                await self._queue(ids)
            case "no_lane":
                async with tools.link.use() as connection:
                    await store.remake_lanes(connection, ids)
                await self._fail(
                    ids, "its lane was removed, so its queue is not known; redrive it to a queue"
                )
            case _:
                async with tools.link.use() as connection:
                    await store.keep_one_place(connection, ids)
        logger.error(
            "%d rows fitted nowhere (%s) and were put right or failed: %s", len(ids), kind, _some(ids)
        )
        tools.observers.emit(StraysFound(kind, list(ids)))

    async def _queue(self, ids: Collection[UUID]) -> None:
        """Return jobs to their queues, but for those of tasks that run at most once."""
        tools, store = self._tools, self._tools.store
        once = {task for task, most in self._registry.loss_limits().items() if most == 0}
        async with tools.link.use() as connection:
            jobs = await store.read_jobs(connection, ids) if once else {}
            doubtful = [
                job.id for job in jobs.values() if job.task in once or job.options.get("max_losses") == 0
            ]
            queued = await store.queue_strays(connection, [each for each in ids if each not in doubtful])
        tools.announcer.committed(ready=set(queued.values()))
        await self._fail(
            doubtful, "it stood in no queue, and may have been started; its task runs at most once"
        )

    async def _fail(self, ids: Iterable[UUID], why: str) -> None:
        tools = self._tools
        failed = []
        for job_id in ids:
            async with tools.link.use() as connection:
                error = JobError("BrokenRow", why)
                if await tools.store.fail_broken(connection, job_id, REASON, error, tools.worker, None):
                    failed.append(job_id)
        tools.announcer.committed(ended=failed)
        tools.announcer.failed(failed)


def _some(ids: Collection[UUID]) -> str:
    shown = ", ".join(map(str, list(ids)[:SHOWN]))
    return shown if len(ids) <= SHOWN else f"{shown} and others"
