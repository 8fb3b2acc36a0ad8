"""`POST /jobs`: submitting a job over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.errors import IdempotencyConflictError, JobNotFoundError
from pgqueue.model.checks import MAX_KEY_LENGTH
from pgqueue.model.jobs import Job, JobStatus
from pgqueue.options.declared import CallOptions
from pgqueue.options.levels import DEFAULTS, Options, read_options
from pgqueue.options.table import Level
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.signature import Signature
from pgqueue.web.api.inputs import SubmitBody
from pgqueue.web.api.outputs import SubmittedJob
from pgqueue.web.api.poll import measured_after
from pgqueue.web.calls import call_of, definition_of, hiding_secrets, key_scope_of, stamps_of
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.links import path_to
from pgqueue.web.http.problems import NO_STORE, ProblemError
from pgqueue.web.http.retry_after import Outlooks, retry_after, retry_after_submission
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings

KEY_WAIT: Final = 1.0
"""Seconds for which a submission waits while another one with its key is being written."""
UUID7: Final = 7
MAX_AWAY: Final = 24 * 60 * 60.0
"""Seconds that the time in a chosen id may be from now: clocks differ, and clients retry."""
DIGEST: Final = "pgqueue-options-digest"
"""The job header that tells a repeated submission from one with other options."""
CONFLICT: Final = "this Idempotency-Key was used with another body; use another key, or send the same body"


def routes(pgq: PgQueue, settings: WebSettings, access: Access, outlooks: Outlooks) -> list[Route]:
    """Return the route of submissions."""
    submissions = Submissions(pgq, settings, access, outlooks)
    return [Route("/jobs", submissions.submit, methods=["POST"], name="submit_job")]


class Submissions:
    """Turns requests into jobs."""

    def __init__(self, pgq: PgQueue, settings: WebSettings, access: Access, outlooks: Outlooks) -> None:
        self._pgq = pgq
        self._settings = settings
        self._access = access
        self._outlooks = outlooks

    async def submit(self, request: Request) -> Response:
        """Enqueue the call in the body of *request*, or find the job of an earlier request like it."""
        await self._access.check(request, "enqueue", "jobs")
        key = read_key(request, is_required=self._settings.require_idempotency_key)
        body = await read_json(request, self._settings, SubmitBody)
        await self._check_named(request, body)
        if body.id is not None:
            check_time_of(body.id, await self._pgq.now())
        signature = self._signature(request, body, key)
        try:
            with hiding_secrets(self._pgq, signature):
                handle = await self._pgq.enqueue(signature, key_wait=None if key is None else KEY_WAIT)
        except IdempotencyConflictError:
            if key is None:
                raise
            raise HTTPException(422, CONFLICT) from None
        options = self._pgq.registry.resolve(signature.task, signature.definition, signature.options)
        job = None if handle.created and _starts_pending(options) else await _read(handle)
        if not handle.created and job is not None:
            await self._check_replay(request, job, options, key)
        return self._accept(request, handle, job, options["queue"])

    async def _check_named(self, request: Request, body: SubmitBody) -> None:
        """Let *request* enqueue what *body* names, or raise HTTPException 401 or 403."""
        check = self._access.check
        await check(request, "enqueue", f"task:{body.task}")
        if body.queue is not None and "queue" in body.model_fields_set:
            await check(request, "enqueue", f"queue:{body.queue}")
        if "priority" in body.model_fields_set:
            await check(request, "enqueue", f"priority:{body.priority}")
        if body.id is not None:
            # Whether an id is taken tells of the jobs of others.
            await self._access.check_collection(request, "enqueue", "job_ids")

    def _signature(self, request: Request, body: SubmitBody, key: str | None) -> Signature[Any]:
        """Return the call that *body* asks for. Raises HTTPException 422, InvalidOptionError."""
        definition = definition_of(self._pgq, self._settings, body.task)
        given = {name: getattr(body, name) for name in body.model_fields_set - {"task", "arguments"}}
        stamps = stamps_of(request, self._settings, self._access)
        options: dict[str, Any] = dict(given)
        if key is not None:
            options |= _hold(key, self._access.key_scope(request))
            if given:
                stamps[DIGEST] = digest_of(body)
        elif self._access.has_owners:
            # A key that the task declares must not find, replace or coalesce with another owner's job.
            scope = self._scope_in(body, definition, options)
            options["idempotency_scope"] = self._access.task_key_scope(request, scope)
        # A job with this id may have another owner, and its arguments were not compared.
        options["on_duplicate"] = "raise"
        return call_of(self._pgq, body.task, definition, body.arguments, options, stamps)

    def _scope_in(
        self, body: SubmitBody, definition: TaskDefinition | None, options: Mapping[str, Any]
    ) -> str:
        """Return the scope of the key that the task declares, with the name of what it is a scope of."""
        call = read_options(f"task {body.task!r}", options, Level.CALL)
        return key_scope_of(body.task, self._pgq.registry.resolve(body.task, definition, call))

    async def _check_replay(self, request: Request, job: Job, options: Options, key: str | None) -> None:
        """Raise HTTPException unless *job* is the requester's and was submitted with the same options."""
        is_same = key is None or job.headers.get(DIGEST) == options["headers"].get(DIGEST)
        if is_same and await self._access.owns(request, job):
            return
        if key is not None:
            raise HTTPException(422, CONFLICT)
        raise HTTPException(409, f"another job of task {job.task!r} already covers this call")

    def _accept(self, request: Request, handle: JobHandle[Any], job: Job | None, queue: str) -> Response:
        path = path_to(request, "job", id=str(handle.id))
        outlook = self._outlooks.of(queue)
        seconds = retry_after_submission(outlook) if job is None else retry_after(job, outlook)
        headers = {**NO_STORE, "Location": path, "Retry-After": str(seconds)}
        if not handle.created:
            headers["Idempotency-Replayed"] = "true"
        status = JobStatus.PENDING if handle.created else None
        document: SubmittedJob = {
            "job_id": str(handle.id),
            # Null: the job was removed since; its key outlives it.
            "status": status if job is None else job.status,
            "poll_url": path,
        }
        return JsonResponse(document, 202, headers, background=measured_after(self._outlooks))


def check_time_of(chosen: UUID, now: datetime) -> None:
    """Raise ProblemError 422 for an id whose time is far from *now*: lists and retention go by it."""
    if chosen.version != UUID7:
        return
    away = (chosen.int >> 80) / 1000 - now.timestamp()
    if abs(away) > MAX_AWAY:
        problem = (
            "the time in the id must be within a day of now: lists and retention go by it; "
            "make the id when you submit the job"
        )
        raise ProblemError(422, problem, errors=[{"field": "id", "message": problem}])


def _hold(key: str, scope: str) -> CallOptions:
    """Return the options that hold *key* in *scope*, whatever the task's own options for keys."""
    return {
        "idempotency_key": key,
        # Clients must not be able to guess the keys of programs, nor those of other actors.
        "idempotency_scope": scope,
        "idempotency_window": DEFAULTS["idempotency_window"],
        "idempotency_while": "window",
        "idempotency_fingerprint": True,
        "on_conflict": "return",
    }


def _starts_pending(options: Options) -> bool:
    """Whether a job with *options* starts as pending, so that it need not be read."""
    # A job that coalesces may be blocked by another.
    return options["delay"] is None and options["run_at"] is None and options["on_conflict"] != "coalesce"


async def _read(handle: JobHandle[Any]) -> Job | None:
    try:
        return await handle.refresh()
    except JobNotFoundError:
        # A key outlives its job.
        return None


def read_key(request: Request, *, is_required: bool) -> str | None:
    """Return the Idempotency-Key of *request*. Raises HTTPException 400.

    It may stand in quotes, as a string of a structured header (RFC 9651) does.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        if is_required:
            raise HTTPException(400, "an Idempotency-Key is required: a unique string of your choice")
        return None
    if len(given) > 1:
        raise HTTPException(400, "more than one Idempotency-Key was sent; send one")
    key = given[0].strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key:
        raise HTTPException(400, "the Idempotency-Key is empty")
    if len(key) > MAX_KEY_LENGTH:
        raise HTTPException(400, f"the Idempotency-Key must be at most {MAX_KEY_LENGTH} characters long")
    if not (key.isascii() and key.isprintable()):
        raise HTTPException(400, "the Idempotency-Key must consist of printable ASCII characters")
    return key


def digest_of(body: SubmitBody) -> str:
    """Return a text that differs if *body* has other options."""
    options = body.model_dump(mode="json", exclude_unset=True, exclude={"task", "arguments"})
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
