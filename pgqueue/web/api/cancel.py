"""`POST /jobs/{id}/cancel`, or `DELETE /jobs/{id}`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import job_document
from pgqueue.model.jobs import JobStatus
from pgqueue.web.api.inputs import Because
from pgqueue.web.api.poll import when_to_ask
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.links import path_to
from pgqueue.web.http.problems import NO_STORE, Problem
from pgqueue.web.http.retry_after import Outlooks
from pgqueue.web.named_in_path import find_job
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access, outlooks: Outlooks) -> list[Route]:
    """Return the routes that cancel one job."""

    async def cancel(request: Request) -> Response:
        job = await find_job(request, pgq, access, "cancel")
        body = await read_json(request, settings, Because)
        had_effect = await pgq.cancel(job.id, reason=body.reason, actor=access.actor_of(request))
        job = await pgq.get(job.id)
        if not had_effect:
            return Problem(409, f"job {job.id} has already ended ({job.status})", job_status=job.status.value)
        headers = {**NO_STORE, "Location": path_to(request, "job", id=str(job.id))}
        if job.status is JobStatus.CANCELLED:
            return JsonResponse(job_document(job), headers=headers)
        # It is running and was asked to stop. If it finishes anyway, it has succeeded.
        if not job.is_terminal:
            headers |= when_to_ask(job, outlooks)
        return JsonResponse(job_document(job), 202, headers)

    return [
        Route("/jobs/{id}/cancel", cancel, methods=["POST"], name="cancel_job"),
        Route("/jobs/{id}", cancel, methods=["DELETE"], name="delete_job"),
    ]
