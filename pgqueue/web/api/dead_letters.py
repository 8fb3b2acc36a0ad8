"""`/dead-letters`: dead letters, listed, shown, redriven and discarded, one at a time."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.errors import NotADeadLetterError
from pgqueue.model.documents import (
    dead_group_document,
    dead_letter_document,
    job_document,
    letter_details_document,
)
from pgqueue.web.api.inputs import Because, GroupQuery, LetterQuery, NoQuery, RedriveBody
from pgqueue.web.api.outputs import Groups, LetterPage
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE, Problem
from pgqueue.web.http.queries import next_page, read_query
from pgqueue.web.http.routing import FixedRoute
from pgqueue.web.named_in_path import find_job
from pgqueue.web.own_lists import letters_page
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes about dead letters."""

    async def list_letters(request: Request) -> Response:
        await access.check(request, "read", "dead_letters")
        query = read_query(request, LetterQuery)
        letters, cursor = await letters_page(request, pgq, access, query.filter(), query.limit, query.cursor)
        link, header = next_page(request, cursor)
        document: LetterPage = {
            "dead_letters": [dead_letter_document(letter) for letter in letters],
            "cursor": cursor,
            "next": link,
        }
        return JsonResponse(document, headers={**NO_STORE, **header})

    async def list_groups(request: Request) -> Response:
        await access.check_collection(request, "read", "dead_letters")
        query = read_query(request, GroupQuery)
        groups = await pgq.dead_groups(
            task=query.task, reason=query.reason, error_type=query.error_type, limit=query.limit
        )
        document: Groups = {"groups": [dead_group_document(group) for group in groups]}
        return JsonResponse(document, headers=NO_STORE)

    async def show(request: Request) -> Response:
        job = await find_job(request, pgq, access, "read")
        read_query(request, NoQuery)
        try:
            details = await pgq.dead_letter(job.id)
        except NotADeadLetterError as error:
            return Problem(404, str(error))
        return JsonResponse(
            letter_details_document(pgq.shown_details(details), show_tracebacks=settings.show_tracebacks),
            headers=NO_STORE,
        )

    async def redrive(request: Request) -> Response:
        job = await find_job(request, pgq, access, "redrive")
        body = await read_json(request, settings, RedriveBody)
        if body.queue is not None:
            await access.check(request, "enqueue", f"queue:{body.queue}")
        await pgq.redrive(
            job.id,
            queue=body.queue,
            arguments=body.arguments,
            reset_attempts=body.reset_attempts,
            reason=body.reason,
            actor=access.actor_of(request),
        )
        return JsonResponse(job_document(await pgq.get(job.id)), headers=NO_STORE)

    async def discard(request: Request) -> Response:
        job = await find_job(request, pgq, access, "discard")
        body = await read_json(request, settings, Because)
        if not await pgq.discard(job.id, reason=body.reason, actor=access.actor_of(request)):
            raise NotADeadLetterError(job.id, job.status)
        return JsonResponse(job_document(await pgq.get(job.id)), headers=NO_STORE)

    return [
        Route("/dead-letters", list_letters, name="dead_letters"),
        FixedRoute("/dead-letters/groups", list_groups, name="dead_groups"),
        Route("/dead-letters/{id}", show, name="dead_letter"),
        Route("/dead-letters/{id}/redrive", redrive, methods=["POST"], name="redrive"),
        Route("/dead-letters/{id}/discard", discard, methods=["POST"], name="discard"),
    ]
