"""`GET /jobs`, and `POST /jobs/cancel` and `/jobs/requeue`: many jobs by one filter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import job_document
from pgqueue.web.api.inputs import CountQuery, JobQuery, JobsBody
from pgqueue.web.api.outputs import CancelledJobs, JobCounts, JobPage, RequeuedJobs
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import next_page, read_query
from pgqueue.web.http.routing import FixedRoute
from pgqueue.web.own_lists import jobs_page
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes about many jobs."""

    async def list_jobs(request: Request) -> Response:
        await access.check(request, "read", "jobs")
        query = read_query(request, JobQuery)
        found, cursor = await jobs_page(request, pgq, access, query.filter(), query.limit, query.cursor)
        link, header = next_page(request, cursor)
        document: JobPage = {
            "jobs": [job_document(job) for job in found],
            "cursor": cursor,
            "next": link,
            "is_cut_short": cursor is not None and len(found) < query.limit,
        }
        return JsonResponse(document, headers={**NO_STORE, **header})

    async def job_counts(request: Request) -> Response:
        await access.check_collection(request, "read", "jobs")
        counts = await pgq.count_jobs(read_query(request, CountQuery).filter())
        document: JobCounts = {
            "counts": {
                status: {"jobs": each.jobs, "is_more": each.is_more} for status, each in counts.items()
            }
        }
        return JsonResponse(document, headers=NO_STORE)

    async def cancel_jobs(request: Request) -> Response:
        await access.check_collection(request, "cancel", "jobs")
        body = await read_json(request, settings, JobsBody)
        counts = pgq.cancel_many(
            body.filter.filter(), all=body.all, reason=body.reason, actor=access.actor_of(request)
        )
        count, is_complete = await count_up_to(body.limit, counts)
        document: CancelledJobs = {"cancelled": count, "is_complete": is_complete}
        return JsonResponse(document, headers=NO_STORE)

    async def requeue_jobs(request: Request) -> Response:
        await access.check_collection(request, "requeue", "jobs")
        body = await read_json(request, settings, JobsBody)
        counts = pgq.requeue_many(
            body.filter.filter(), all=body.all, reason=body.reason, actor=access.actor_of(request)
        )
        count, is_complete = await count_up_to(body.limit, counts)
        document: RequeuedJobs = {"requeued": count, "is_complete": is_complete}
        return JsonResponse(document, headers=NO_STORE)

    return [
        Route("/jobs", list_jobs, name="jobs"),
        FixedRoute("/jobs/counts", job_counts, name="job_counts"),
        FixedRoute("/jobs/cancel", cancel_jobs, methods=["POST"], name="cancel_jobs"),
        FixedRoute("/jobs/requeue", requeue_jobs, methods=["POST"], name="requeue_jobs"),
    ]


async def count_up_to(limit: int, counts: AsyncIterator[int]) -> tuple[int, bool]:
    """Return the sum of *counts*, up to *limit*, and whether it is complete."""
    total = 0
    async with aclosing(counts) as batches:  # type: ignore[type-var]  # a generator, and declared as less
        async for count in batches:
            total += count
            if total >= limit:
                return total, False
    return total, True
