"""Redriving one dead letter, as it is, or with other arguments after a preview."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import InvalidArgumentsError, InvalidOptionError, NotADeadLetterError, UnknownQueueError
from pgqueue.model.jobs import Job, JobStatus
from pgqueue.tasks.payload import POSITIONAL
from pgqueue.tasks.redaction import UNKNOWN, Parameters
from pgqueue.web.http.bodies import parse_json
from pgqueue.web.pages.errors import explain
from pgqueue.web.pages.format import editable, pretty
from pgqueue.web.pages.forms import read_form, reason_in
from pgqueue.web.pages.page import Pages

CORRECTABLE: Final = (InvalidArgumentsError, InvalidOptionError, UnknownQueueError)
"""Errors that are shown beside the form, where they can be corrected."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What has been filled in so far."""

    text: str
    """The arguments, which may or may not be JSON."""
    queue: str
    keeps_attempts: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one argument. The values are JSON; None: there is none."""

    name: str
    kind: Literal["added", "changed", "removed", "unchanged"]
    before: str | None
    after: str | None


def changes(before: Any, after: Mapping[str, Any]) -> list[Change]:
    """Return the change of each argument, changed ones first."""
    stored: Mapping[str, Any] = before if isinstance(before, dict) else {}
    found: list[Change] = []
    for name in {**stored, **after}:
        old = pretty(stored[name]) if name in stored else None
        new = pretty(after[name]) if name in after else None
        if old is None:
            found.append(Change(name, "added", old, new))
        elif new is None:
            found.append(Change(name, "removed", old, new))
        else:
            # As texts: to Python 1, 1.0 and True are the same.
            is_same = _as_text(stored[name]) == _as_text(after[name])
            found.append(Change(name, "unchanged" if is_same else "changed", old, new))
    return sorted(found, key=lambda change: change.kind == "unchanged")


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def by_name(stored: Any, parameters: Parameters) -> dict[str, Any]:
    """Return *stored* arguments by name, as a redrive takes them; empty if some have no name."""
    if isinstance(stored, list):
        stored = {POSITIONAL: stored}
    if not isinstance(stored, dict):
        return {}
    if parameters == UNKNOWN:
        # Only the worker validates them, and it takes them as they were.
        return stored
    named = dict(stored)
    positional = named.pop(POSITIONAL, [])
    if not isinstance(positional, list) or len(positional) > len(parameters.by_position):
        return {}
    named = {**dict(zip(parameters.by_position, positional, strict=False)), **named}
    more = named.pop(parameters.named_rest, {}) if parameters.named_rest is not None else {}
    return {**named, **more} if isinstance(more, dict) else {}


def read_arguments(text: str) -> dict[str, Any]:
    """Return the arguments that were typed. Raises HTTPException 422."""
    arguments = parse_json(text.encode("utf-8", "surrogatepass"), "the text")
    if not isinstance(arguments, dict):
        raise HTTPException(422, "the text must be a JSON object that maps parameter names to values")
    return arguments


def routes(pages: Pages) -> list[Route]:
    """Return the routes of the pages and of their forms."""
    own = RedrivePages(pages)
    return [
        Route("/jobs/{id}/redrive", own.edit),
        Route("/jobs/{id}/redrive", own.redrive, methods=["POST"]),
        Route("/jobs/{id}/redrive/preview", own.preview, methods=["POST"]),
    ]


class RedrivePages:
    """Redriving one dead letter."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def edit(self, request: Request) -> Response:
        """Show the arguments in a form."""
        job = await self._pages.job(request, "redrive")
        self._check(job)
        is_known = "arguments" not in job.undecodable
        arguments = by_name(job.arguments, self._parameters(job)) if is_known else {}
        return self._page(request, job, Draft(editable(arguments), job.queue))

    async def preview(self, request: Request) -> Response:
        """Show how the arguments would change."""
        job, form = await self._begin(request)
        self._check(job)
        draft = _draft(job, form)
        try:
            arguments = read_arguments(draft.text)
            reason_in(form)
            rewritten = self._pages.pgq.preview_redrive(
                job, arguments=arguments, queue=None if draft.queue == job.queue else draft.queue
            )
        except (HTTPException, *CORRECTABLE) as error:
            return self._page(request, job, draft, error)
        return self._page(request, job, draft, rewritten=rewritten)

    async def redrive(self, request: Request) -> Response:
        """Make it pending again."""
        job, form = await self._begin(request)
        if "arguments" not in form:
            await self._redrive(request, job, form, None)
            return self._back(request, job)
        self._check(job)
        try:
            await self._redrive(request, job, form, read_arguments(form["arguments"]))
        except (HTTPException, *CORRECTABLE) as error:
            return self._page(request, job, _draft(job, form), error)
        return self._back(request, job)

    async def _begin(self, request: Request) -> tuple[Job, dict[str, str]]:
        job = await self._pages.job(request, "redrive")
        settings = self._pages.settings
        return job, await read_form(request, settings, limit=settings.body_limit)

    async def _redrive(
        self, request: Request, job: Job, form: Mapping[str, str], arguments: Mapping[str, Any] | None
    ) -> None:
        queue = form.get("queue", job.queue)
        if queue != job.queue:
            await self._pages.access.check(request, "enqueue", f"queue:{queue}")
        await self._pages.pgq.redrive(
            job.id,
            queue=None if queue == job.queue else queue,
            arguments=arguments,
            reset_attempts="keep_attempts" not in form,
            reason=reason_in(form),
            actor=self._pages.actor(request),
        )

    def _check(self, job: Job) -> None:
        """Raise if the arguments of *job* cannot be changed here."""
        if job.status is not JobStatus.FAILED:
            raise NotADeadLetterError(job.id, job.status)
        if self._pages.hides(job):
            raise HTTPException(
                409,
                "some arguments are redacted, so they cannot be edited here; use "
                "`pgqueue dead redrive --arguments` with the complete arguments",
            )

    def _parameters(self, job: Job) -> Parameters:
        definition = self._pages.pgq.registry.get(job.task)
        return UNKNOWN if definition is None else definition.arguments.parameters

    def _page(
        self,
        request: Request,
        job: Job,
        draft: Draft,
        error: Exception | None = None,
        *,
        rewritten: Mapping[str, Any] | None = None,
    ) -> Response:
        """Return the form; with *error*, what is wrong; with *rewritten*, how the arguments would change."""
        status, wrong = (200, None) if error is None else explain(error)
        if rewritten is not None:
            rewritten = self._pages.pgq.registry.redact(job.task, draft.queue, rewritten)
        return self._pages.render(
            request,
            "job_redrive.html",
            section="jobs",
            status=status,
            is_top=False,
            job=job,
            draft=draft,
            wrong=wrong,
            changes=None if rewritten is None else changes(job.arguments, rewritten),
            are_known=self._pages.pgq.registry.get(job.task) is not None,
        )

    def _back(self, request: Request, job: Job) -> Response:
        return self._pages.go(request, f"/jobs/{job.id}?done=redriven")


def _draft(job: Job, form: Mapping[str, str]) -> Draft:
    return Draft(
        form.get("arguments", ""), form.get("queue", job.queue), "keep_attempts" in form, form.get("why", "")
    )
