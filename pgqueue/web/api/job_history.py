"""What operators see and do about one job: its history, requeueing, its priority and its time."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import action_document, attempt_document, job_document
from pgqueue.model.waits import wait_document
from pgqueue.web.api.inputs import Because, EditBody, NoQuery, PriorityBody
from pgqueue.web.api.outputs import Actions, Attempts, JobWait
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import read_query
from pgqueue.web.named_in_path import check_edit, find_job
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes about one job that are for operators."""

    async def attempts(request: Request) -> Response:
        job = await find_job(request, pgq, access, "read")
        read_query(request, NoQuery)
        found = [
            attempt_document(attempt, show_tracebacks=settings.show_tracebacks)
            for attempt in await pgq.attempts(job.id)
        ]
        document: Attempts = {"attempts": found}
        return JsonResponse(document, headers=NO_STORE)

    async def wait(request: Request) -> Response:
        job = await find_job(request, pgq, access, "read")
        read_query(request, NoQuery)
        found = await pgq.explain_wait(job.id)
        document: JobWait = {"waits": None if found is None else wait_document(found)}
        return JsonResponse(document, headers=NO_STORE)

    async def actions(request: Request) -> Response:
        job = await find_job(request, pgq, access, "read")
        read_query(request, NoQuery)
        document: Actions = {"actions": [action_document(action) for action in await pgq.actions(job.id)]}
        return JsonResponse(document, headers=NO_STORE)

    async def requeue(request: Request) -> Response:
        job = await find_job(request, pgq, access, "requeue")
        body = await read_json(request, settings, Because)
        if not await pgq.requeue(job.id, reason=body.reason, actor=access.actor_of(request)):
            raise HTTPException(409, f"job {job.id} has not ended; only ended jobs can be requeued")
        return JsonResponse(job_document(await pgq.get(job.id)), headers=NO_STORE)

    async def run_now(request: Request) -> Response:
        job = await find_job(request, pgq, access, "run_now")
        body = await read_json(request, settings, Because)
        await pgq.run_now(job.id, reason=body.reason, actor=access.actor_of(request))
        return JsonResponse(job_document(await pgq.get(job.id)), headers=NO_STORE)

    async def reprioritise(request: Request) -> Response:
        job = await find_job(request, pgq, access, "reprioritise")
        body = await read_json(request, settings, PriorityBody)
        await access.check(request, "reprioritise", f"priority:{body.priority}")
        await pgq.reprioritise(job.id, body.priority, reason=body.reason, actor=access.actor_of(request))
        return JsonResponse(job_document(await pgq.get(job.id)), headers=NO_STORE)

    async def edit(request: Request) -> Response:
        job = await find_job(request, pgq, access, "edit")
        body = await read_json(request, settings, EditBody)
        await check_edit(request, access, job, queue=body.queue, priority=body.priority)
        given = body.model_dump(include={"queue", "priority", "run_at", "arguments"})
        await pgq.edit(job.id, **given, reason=body.reason, actor=access.actor_of(request))
        return JsonResponse(job_document(await pgq.get(job.id)), headers=NO_STORE)

    return [
        Route("/jobs/{id}", edit, methods=["PATCH"], name="edit_job"),
        Route("/jobs/{id}/wait", wait, name="job_wait"),
        Route("/jobs/{id}/attempts", attempts, name="job_attempts"),
        Route("/jobs/{id}/actions", actions, name="job_actions"),
        Route("/jobs/{id}/requeue", requeue, methods=["POST"], name="requeue_job"),
        Route("/jobs/{id}/run", run_now, methods=["POST"], name="run_job"),
        Route("/jobs/{id}/reprioritise", reprioritise, methods=["POST"], name="reprioritise_job"),
    ]
