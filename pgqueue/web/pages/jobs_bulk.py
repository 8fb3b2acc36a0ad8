"""Many jobs at once: a preview of the rows selected, or of all that the filter finds, and the progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.client.bulk import changeable
from pgqueue.errors import InvalidFilterError
from pgqueue.model.bulk import POSSIBLE, VERBS, BulkVerb
from pgqueue.model.filters import JobFilter
from pgqueue.model.jobs import Job
from pgqueue.web.named_in_path import find_bulk, read_id, read_progress
from pgqueue.web.pages.format import brief
from pgqueue.web.pages.forms import number_in, read_form, reason_in
from pgqueue.web.pages.jobs import Query, check_known
from pgqueue.web.pages.operation import show_operation
from pgqueue.web.pages.page import Pages, base_of

SAMPLE: Final = 50
"""Jobs that a preview shows: at most those of a page of the list."""
WORDS: Final[Mapping[BulkVerb, str]] = {"cancel": "cancel", "requeue": "retry", "discard": "discard"}
"""What pages call the operations."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The jobs that an operation would change."""

    total: int
    is_more: bool
    """Whether there may be more than were counted."""
    sample: Sequence[Job]
    left: Sequence[Job] = ()
    """Selected jobs that it cannot change as they are."""


def read_verb(given: Mapping[str, str]) -> BulkVerb:
    """Return the operation that is asked for. Raises HTTPException 422."""
    for verb in VERBS:
        if given.get("verb") == verb:
            return verb
    raise HTTPException(422, f"verb must be one of {', '.join(VERBS)}, got {given.get('verb', '')[:40]!r}")


def read_filter(text: str, now: datetime) -> JobFilter:
    """Return the filter of the list whose address has *text* behind its `?`. Raises InvalidFilterError."""
    params = QueryParams(text)
    check_known(params)
    return Query.of(params).chosen(now)


def routes(pages: Pages) -> list[Route]:
    """Return the routes of the pages and of their forms."""
    own = BulkPages(pages)
    return [
        Route("/jobs/bulk", own.preview),
        Route("/jobs/bulk", own.begin, methods=["POST"]),
        Route("/bulk/{id}", own.show),
        Route("/bulk/{id}/cancel", own.stop, methods=["POST"]),
    ]


class BulkPages:
    """Actions on many jobs."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def preview(self, request: Request) -> Response:
        """Show which jobs an operation would change."""
        await self._pages.access.check_collection(request, "read", "jobs")
        params = request.query_params
        verb = read_verb(params)
        await self._pages.access.check_collection(request, verb, "jobs")
        now = await self._pages.pgq.now()
        is_all = "all" in params
        ids = [] if is_all else [read_id(each) for each in params.getlist("id")]
        text = params.get("filter", "")
        found = (
            await self._find(verb, read_filter(text, now), now) if is_all else await self._listed(verb, ids)
        )
        pgq = self._pages.pgq
        return self._pages.render(
            request,
            "jobs_bulk.html",
            section="jobs",
            is_top=False,
            verb=verb,
            word=WORDS[verb],
            found=found,
            is_all=is_all,
            filter=text,
            chosen=Query.of(QueryParams(text)),
            hidden={
                "verb": verb,
                "bulk_id": str(uuid4()),
                "as_of": now.isoformat(),
                "expected": str(found.total),
                **({"filter": text, "all": "1"} if is_all else {"ids": ",".join(map(str, ids))}),
            },
            arguments={job.id: brief(pgq.shown_arguments(job)) for job in (*found.sample, *found.left)},
            back=f"{base_of(request)}/jobs{'?' if text else ''}{text}",
            now=now,
        )

    async def begin(self, request: Request) -> Response:
        """Begin it."""
        await self._pages.access.check_collection(request, "read", "jobs")
        form = await read_form(request, self._pages.settings)
        verb = read_verb(form)
        await self._pages.access.check_collection(request, verb, "jobs")
        as_of, bulk_id = _as_of(form), read_id(form.get("bulk_id", ""), "bulk operation")
        reason, actor, expected = reason_in(form), self._pages.actor(request), number_in(form, "expected")
        pgq = self._pages.pgq
        if "all" in form:
            chosen = read_filter(form.get("filter", ""), as_of)
            handle = await pgq.begin_bulk(
                verb,
                chosen,
                all=True,
                as_of=as_of,
                expected=expected,
                bulk_id=bulk_id,
                reason=reason,
                actor=actor,
            )
        else:
            ids = [read_id(each) for each in form.get("ids", "").split(",") if each]
            handle = await pgq.begin_bulk(
                verb, ids=ids, expected=expected, bulk_id=bulk_id, reason=reason, actor=actor
            )
        return self._pages.go(request, f"/bulk/{handle.id}")

    async def show(self, request: Request) -> Response:
        """Show how far one has come."""
        await self._pages.access.check_collection(request, "read", "jobs")
        progress = await read_progress(find_bulk(request, self._pages.pgq))
        return await show_operation(
            self._pages,
            request,
            progress,
            "bulk.html",
            at="bulk",
            section="jobs",
            heading=f"{WORDS[progress.verb].capitalize()} many jobs",
            stopped_by=(progress.verb, "jobs"),
        )

    async def stop(self, request: Request) -> Response:
        """Stop it."""
        await self._pages.access.check_collection(request, "read", "jobs")
        handle = find_bulk(request, self._pages.pgq)
        progress = await read_progress(handle)
        await self._pages.access.check_collection(request, progress.verb, "jobs")
        done = await handle.cancel()
        return self._pages.go(request, f"/bulk/{handle.id}?done={'bulk_stopped' if done else 'nothing'}")

    async def _find(self, verb: BulkVerb, chosen: JobFilter, now: datetime) -> Preview:
        """Return what *verb* would change of all that match *chosen*."""
        found = await self._pages.pgq.job_ids(changeable(verb, chosen, now))
        jobs = await self._pages.pgq.get_many(found.ids[:SAMPLE], large_results=False)
        return Preview(len(found.ids), found.is_more, [jobs[each] for each in found.ids if each in jobs])

    async def _listed(self, verb: BulkVerb, ids: Sequence[UUID]) -> Preview:
        if not ids:
            raise InvalidFilterError(f"{WORDS[verb]}: select jobs first, or all that the filter finds")
        if len(ids) > SAMPLE:
            raise InvalidFilterError(
                f"{WORDS[verb]}: select at most {SAMPLE} jobs, or all that the filter finds"
            )
        jobs = list((await self._pages.pgq.get_many(ids, large_results=False)).values())
        meant = [job for job in jobs if job.status in POSSIBLE[verb]]
        return Preview(len(meant), False, meant, [job for job in jobs if job.status not in POSSIBLE[verb]])


def _as_of(form: Mapping[str, str]) -> datetime:
    """Return when the preview was made. Raises HTTPException 422."""
    try:
        return datetime.fromisoformat(form.get("as_of", "")).astimezone(UTC)
    except (ValueError, OverflowError):
        raise HTTPException(422, "open the preview first; it shows which jobs are changed") from None
