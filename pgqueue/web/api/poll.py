"""`GET /jobs/{id}` and `GET /jobs/{id}/result`: a job's state, and its result."""

from __future__ import annotations

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.errors import CodecError
from pgqueue.model.documents import job_document
from pgqueue.model.jobs import Job, JobStatus
from pgqueue.web.http.etags import encode, matches
from pgqueue.web.http.links import path_to
from pgqueue.web.http.problems import NO_STORE, Problem
from pgqueue.web.http.retry_after import Outlooks, retry_after
from pgqueue.web.live.long_poll import LongPolls, Subject
from pgqueue.web.named_in_path import find_job
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(
    pgq: PgQueue, settings: WebSettings, access: Access, outlooks: Outlooks, long_polls: LongPolls
) -> list[Route]:
    """Return the routes of polls."""
    jobs: Subject[Job] = Subject(job_document, lambda job: job.is_terminal, lambda job: pgq.watch(job.id))

    async def job(request: Request) -> Response:
        found = await find_job(request, pgq, access, "read")
        found, applied = await long_polls.until_changed(request, found, jobs, access.reader_of(request))
        answer = answer_poll(request, found, settings, outlooks)
        answer.headers.update(applied)
        return answer

    async def job_result(request: Request) -> Response:
        found = await find_job(request, pgq, access, "read")
        return answer_result(request, found, settings, outlooks)

    return [Route("/jobs/{id}", job, name="job"), Route("/jobs/{id}/result", job_result, name="job_result")]


def answer_poll(request: Request, job: Job, settings: WebSettings, outlooks: Outlooks) -> Response:
    """Return the state of *job*: 200 whatever its status, or as the async protocol says; or 304."""
    if settings.async_protocol and job.status is JobStatus.SUCCEEDED:
        location = path_to(request, "job_result", id=str(job.id))
        return Response(status_code=303, headers={**NO_STORE, "Location": location})
    headers = {} if job.is_terminal else when_to_ask(job, outlooks)
    status = 200
    if settings.async_protocol and not job.is_terminal:
        status = 202
        headers["Location"] = path_to(request, "job", id=str(job.id))
    return _answer(request, job_document(job), outlooks, status=status, headers=headers)


def answer_result(request: Request, job: Job, settings: WebSettings, outlooks: Outlooks) -> Response:
    """Return the result of *job*; 204: none was stored; 409: there is none. Raises CodecError."""
    if job.status is JobStatus.SUCCEEDED:
        if not job.has_result:
            return Response(status_code=204, headers=NO_STORE)
        if "result" in job.undecodable:
            raise CodecError(job.id, "result", job.undecodable["result"])
        return _answer(request, job.shown_result, outlooks)
    if not job.is_terminal and settings.async_protocol:
        return answer_poll(request, job, settings, outlooks)
    document = job_document(job)
    return Problem(
        409,
        f"job {job.id} is {job.status}: "
        + ("there is no result" if job.is_terminal else "there is no result yet"),
        headers=None if job.is_terminal else when_to_ask(job, outlooks),
        job_status=job.status.value,
        error=document["error"],
    )


def when_to_ask(job: Job, outlooks: Outlooks) -> dict[str, str]:
    """Return the header that says after how many seconds to ask for *job* again."""
    return {"Retry-After": str(retry_after(job, outlooks.of(job.queue)))}


def measured_after(outlooks: Outlooks) -> BackgroundTask | None:
    """Return the task to run after a response: it measures the queues, if the last measure is stale."""
    return BackgroundTask(outlooks.refresh) if outlooks.are_stale else None


def _answer(
    request: Request,
    document: object,
    outlooks: Outlooks,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    text, version = encode(document)
    # Caches must not store it; a client with a copy may ask whether it is up to date.
    headers = {**NO_STORE, "ETag": f'"{version}"', "Vary": "Authorization, Cookie, Prefer", **(headers or {})}
    background = measured_after(outlooks) if "Retry-After" in headers else None
    if matches(request.headers.get("if-none-match", ""), version):
        return Response(status_code=304, headers=headers, background=background)
    return Response(text, status, headers, "application/json", background)
