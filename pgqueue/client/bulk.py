"""Bulk operations: many jobs cancelled, requeued or discarded in the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid4

from pgqueue.client.jobs import JobInterface
from pgqueue.client.operation_handle import BulkHandle
from pgqueue.errors import InvalidFilterError, InvalidOptionError
from pgqueue.model.bulk import BY_DEFAULT, MAX_IDS, POSSIBLE, VERBS, BulkVerb
from pgqueue.model.checks import aware_time, check_notes, integer, shown
from pgqueue.model.filters import JobFilter, check_filter
from pgqueue.model.ids import read_id
from pgqueue.model.unset import UNSET, Unset


class BulkInterface(JobInterface):
    """What operators do to many jobs at once. `actor` and `reason` are recorded in each job's history."""

    async def begin_bulk(
        self,
        verb: BulkVerb,
        chosen: JobFilter | None = None,
        *,
        ids: Sequence[UUID | str] | None = None,
        all: bool = False,  # noqa: A002  # what it means
        as_of: datetime | None = None,
        expected: int | None = None,
        bulk_id: UUID | str | Unset = UNSET,
        reason: str | None = None,
        actor: str | None = None,
    ) -> BulkHandle:
        """Begin to cancel, requeue or discard the jobs that match *chosen*, or those with *ids*.

        Returns at once: workers do it in the background, newest jobs first, and this process may end. *verb*:
        "cancel" (jobs that have not ended; running ones are asked to stop), "requeue" (those that ended, but
        for succeeded ones unless the filter names that status), or "discard" (dead letters, which stay
        failed). Jobs that have changed meanwhile are left as they are, and counted: `found` less `done`.

        *ids*: 1,000 at most. *all*: confirms an empty filter, which matches every job. *as_of*: what was
        created, or has ended, since is left out; now, if not passed. A filter that searches arguments selects
        the first 10,000 jobs now. *expected*: what a preview counted. *bulk_id*: if an operation with this id
        was begun already, this is that one. Raises InvalidFilterError, InvalidOptionError.
        """
        if verb not in VERBS:
            raise InvalidOptionError(f"begin_bulk: verb must be one of {', '.join(VERBS)}, got {shown(verb)}")
        check_notes("begin_bulk", actor=actor, reason=reason)
        if expected is not None:
            integer("begin_bulk: expected", expected, least=0)
        if as_of is not None:
            aware_time("begin_bulk: as_of", as_of)
        handle_id = uuid4() if isinstance(bulk_id, Unset) else read_id(bulk_id)
        listed: list[UUID] | None = None
        if ids is not None:
            if chosen is not None or all:
                raise InvalidFilterError("begin_bulk: pass either ids or a filter, not both")
            listed = _read_ids(ids)
        else:
            chosen = await self._meant(verb, chosen, as_of, everything=all)
            if chosen.search is not None:
                listed, chosen = list((await self.job_ids(chosen)).ids), None
        async with self._database.acquire() as connection:
            await self._store.begin_bulk(
                connection, handle_id, verb, chosen, listed, expected=expected, reason=reason, actor=actor
            )
        return self.bulk_handle(handle_id)

    def bulk_handle(self, bulk_id: UUID | str) -> BulkHandle:
        """Return a handle of a bulk operation by its id. No I/O: it may not exist."""
        return BulkHandle(self._database, self._store, read_id(bulk_id))

    async def _meant(
        self, verb: BulkVerb, chosen: JobFilter | None, as_of: datetime | None, *, everything: bool
    ) -> JobFilter:
        """Return the filter of the jobs that *verb* changes. Raises InvalidFilterError."""
        chosen = JobFilter() if chosen is None else chosen
        check_filter("begin_bulk", chosen, JobFilter)
        if chosen.is_empty and not everything:
            raise InvalidFilterError(
                "begin_bulk: an empty filter matches every job: narrow it, or pass all=True"
            )
        return changeable(verb, chosen, as_of or await self._now())

    async def _now(self) -> datetime:
        async with self._database.acquire() as connection:
            at: datetime = await connection.fetchval("select pg_catalog.now()")
        return at


def changeable(verb: BulkVerb, chosen: JobFilter, as_of: datetime) -> JobFilter:
    """Return the filter of those of *chosen* that *verb* could change *as_of* that time.

    Raises InvalidFilterError if it can change none.
    """
    statuses = BY_DEFAULT[verb] if chosen.statuses is None else chosen.statuses & POSSIBLE[verb]
    if not statuses:
        possible = ", ".join(sorted(POSSIBLE[verb]))
        raise InvalidFilterError(
            f"{verb}: it changes jobs that are {possible}, and the filter selects none of these statuses"
        )
    if verb == "cancel":
        before = as_of if chosen.created_before is None else min(chosen.created_before, as_of)
        return replace(chosen, statuses=statuses, created_before=before)
    before = as_of if chosen.finished_before is None else min(chosen.finished_before, as_of)
    return replace(chosen, statuses=statuses, finished_before=before)


def _read_ids(ids: object) -> list[UUID]:
    if isinstance(ids, str | bytes) or not isinstance(ids, Sequence):
        raise InvalidFilterError(f"begin_bulk: ids must be a list of job ids, got {shown(ids)}")
    if not 1 <= len(ids) <= MAX_IDS:
        raise InvalidFilterError(f"begin_bulk: ids must be 1 to {MAX_IDS:,} job ids, got {len(ids):,}")
    return [read_id(each) for each in ids]
