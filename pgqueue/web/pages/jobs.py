"""The page of jobs: a filter, and the jobs that match it, newest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import InvalidFilterError
from pgqueue.model.bulk import VERBS
from pgqueue.model.filters import JobFilter, Page, StatusCount
from pgqueue.model.jobs import JobStatus
from pgqueue.web.named_in_path import read_id
from pgqueue.web.own_lists import jobs_page
from pgqueue.web.pages.errors import explain
from pgqueue.web.pages.format import brief
from pgqueue.web.pages.page import NOTHING, Offers, Pages, base_of

PAGE: Final = 50
COUNTED: Final = 200
"""Jobs that are counted one by one, at most."""
TRAIL: Final = 20
"""How many pages one can go back, step by step."""
TIMES: Final = ("created_after", "created_before", "finished_after", "finished_before")
TEXTS: Final = ("queue", "task", "search", "created", "finished", "tag", "key", *TIMES, "id")
COMMON: Final = ("queue", "task", "search", "created", "finished")
"""The fields that always show."""
OTHERS: Final = ("status", "cursor", "trail", "done")
PERIODS: Final = {
    "hour": ("last hour", timedelta(hours=1)),
    "day": ("last 24 hours", timedelta(days=1)),
    "week": ("last 7 days", timedelta(days=7)),
}
"""How long ago something was at most, by its word in the address."""
NO_COUNTS: Final[Mapping[JobStatus, StatusCount]] = {}


@dataclass(frozen=True, slots=True)
class Query:
    """What the page is asked for, as it was typed."""

    statuses: Sequence[str]
    texts: Mapping[str, str]
    cursor: str | None
    trail: Sequence[str]
    """The cursors of the pages before, oldest first; that of the first page is not in it."""

    @classmethod
    def of(cls, params: QueryParams) -> Query:
        """Return what *params* ask for."""
        trail = [each for each in params.get("trail", "").split(".") if each]
        return cls(
            statuses=[each for each in params.getlist("status") if each],
            texts={name: params.get(name, "").strip() for name in TEXTS},
            cursor=params.get("cursor") or None,
            trail=trail[-TRAIL:],
        )

    @property
    def is_empty(self) -> bool:
        """Whether it asks for all jobs."""
        return not self.statuses and not any(self.texts.values())

    @property
    def has_more(self) -> bool:
        """Whether it uses one of the less common fields."""
        return any(self.texts[name] for name in TEXTS if name not in COMMON)

    def chosen(self, now: datetime) -> JobFilter:
        """Return the filter; its periods end *now*. Raises InvalidFilterError."""
        names = ("queue", "task", "search", "tag", "key")
        criteria: dict[str, Any] = {name: self.texts[name] or None for name in names}
        for name in TIMES:
            criteria[name] = read_time(name, self.texts[name])
        for name in ("created", "finished"):
            since = read_period(name, self.texts[name], now)
            if since is not None:
                after = criteria[f"{name}_after"]
                criteria[f"{name}_after"] = since if after is None else max(since, after)
        return JobFilter.of(status=self.statuses or None, **criteria)

    def address(self, *, cursor: str | None = None, trail: Sequence[str] = ()) -> str:
        """Return the query string of another page of the same list."""
        pairs = [("status", each) for each in self.statuses]
        pairs += [(name, text) for name, text in self.texts.items() if text]
        pairs += [("cursor", cursor)] if cursor else []
        pairs += [("trail", ".".join(trail))] if trail else []
        return f"?{urlencode(pairs)}" if pairs else ""

    def older(self, cursor: str) -> str:
        """Return the query string of the page that begins at *cursor*, behind this one."""
        before = [*self.trail, self.cursor] if self.cursor else []
        return self.address(cursor=cursor, trail=before[-TRAIL:])

    def newer(self) -> str:
        """Return the query string of the page before this one."""
        if not self.trail:
            return self.address()
        return self.address(cursor=self.trail[-1], trail=self.trail[:-1])


def read_time(name: str, given: str) -> datetime | None:
    """Return the time that was typed, UTC unless it says otherwise. Raises InvalidFilterError."""
    if not given:
        return None
    try:
        at = datetime.fromisoformat(given)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidFilterError(
            f"filter: {name} must be a time such as 2026-01-31T13:45 (UTC), got {given!r}"
        ) from error


def read_period(name: str, given: str, now: datetime) -> datetime | None:
    """Return when the period began that was chosen. Raises InvalidFilterError."""
    if not given:
        return None
    if given not in PERIODS:
        raise InvalidFilterError(f"filter: {name} must be one of {', '.join(PERIODS)}, got {given!r}")
    return now - PERIODS[given][1]


def routes(pages: Pages) -> list[Route]:
    """Return the page's route."""

    async def show(request: Request) -> Response:
        await pages.access.check(request, "read", "jobs")
        query = Query.of(request.query_params)
        try:
            check_known(request.query_params)
            if query.texts["id"]:
                return pages.go(request, f"/jobs/{read_id(query.texts['id'])}")
            now = await pages.pgq.now()
            chosen = query.chosen(now)
            page = await find(request, pages, chosen, query.cursor)
        except (InvalidFilterError, HTTPException) as error:
            return render(request, query, Page([], None), wrong=explain(error)[1])
        counts = await count(request, pages, chosen, page if query.cursor is None else None)
        may = await pages.offers(request, ("enqueue", "jobs"), *((verb, "jobs") for verb in VERBS))
        return render(request, query, page, wrong=None, now=now, counts=counts, may=may)

    def render(
        request: Request,
        query: Query,
        page: Page,
        *,
        wrong: str | None,
        now: datetime | None = None,
        counts: Mapping[JobStatus, StatusCount] = NO_COUNTS,
        may: Offers = NOTHING,
    ) -> Response:
        here = f"{base_of(request)}/jobs"
        return pages.render(
            request,
            "jobs.html",
            section="jobs",
            status=422 if wrong else 200,
            # On later pages only statuses change, and the page's edges would move while someone reads.
            events="" if query.cursor or wrong else "/events",
            query=query,
            statuses=list(JobStatus),
            known={"queue": sorted(pages.pgq.registry.queues), "task": sorted(pages.pgq.registry.names)},
            periods={name: words for name, (words, _) in PERIODS.items()},
            counts=counts,
            jobs=page.jobs,
            # Where jobs have owners, these ask who may change those of all.
            verbs=[verb for verb in VERBS if may(verb, "jobs")],
            may=may,
            address=query.address().removeprefix("?"),
            arguments={job.id: brief(pages.pgq.shown_arguments(job)) for job in page.jobs},
            cursor=page.cursor,
            is_cut_short=page.is_cut_short,
            older=here + query.older(page.cursor) if page.cursor else None,
            newer=here + query.newer() if query.cursor else None,
            newest=here + query.address(),
            wrong=wrong,
            now=now,
        )

    return [Route("/jobs", show)]


async def find(
    request: Request, pages: Pages, chosen: JobFilter, cursor: str | None, limit: int = PAGE
) -> Page:
    """Return the page of the jobs that match *chosen*. Raises InvalidFilterError."""
    jobs, cursor = await jobs_page(request, pages.pgq, pages.access, chosen, limit, cursor)
    return Page(jobs, cursor, is_cut_short=cursor is not None and len(jobs) < limit)


async def count(
    request: Request, pages: Pages, chosen: JobFilter, first: Page | None
) -> Mapping[JobStatus, StatusCount]:
    """Return how many jobs of each status match *chosen*, whatever statuses it names.

    *first*: the first page of them, if that is at hand. Where jobs have owners, and in a search, jobs are
    read, as the list does it: the database knows neither whose a job is nor what is redacted.
    """
    if not (pages.access.has_owners or chosen.search):
        return await pages.pgq.count_jobs(chosen)
    if first is None or first.cursor is not None or chosen.statuses is not None:
        first = await find(request, pages, replace(chosen, statuses=None), None, COUNTED)
    return tally(first)


def tally(page: Page) -> Mapping[JobStatus, StatusCount]:
    """Return how many jobs of each status are on *page*, and whether there may be more behind it."""
    by_status = Counter(job.status for job in page.jobs)
    return {status: StatusCount(by_status[status], page.cursor is not None) for status in JobStatus}


def check_known(params: QueryParams) -> None:
    """Raise InvalidFilterError for parameters that are not fields of the filter."""
    if unknown := sorted(params.keys() - {*TEXTS, *OTHERS}):
        raise InvalidFilterError(
            f"filter: unknown field {unknown[0]!r}; allowed: {', '.join(('status', *TEXTS))}"
        )
