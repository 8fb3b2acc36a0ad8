"""Editing a job while it waits: its queue, priority, run time and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import (
    InvalidArgumentsError,
    InvalidFilterError,
    InvalidOptionError,
    JobNotWaitingError,
    PayloadTooLargeError,
    RedactedArgumentsError,
    UnknownQueueError,
)
from pgqueue.model.jobs import Job
from pgqueue.tasks.redaction import UNKNOWN
from pgqueue.web.named_in_path import check_edit
from pgqueue.web.pages.errors import explain
from pgqueue.web.pages.format import editable
from pgqueue.web.pages.forms import number_in, read_form, reason_in
from pgqueue.web.pages.job import WAITING
from pgqueue.web.pages.job_redrive import by_name, read_arguments
from pgqueue.web.pages.jobs import read_time
from pgqueue.web.pages.page import Pages

CORRECTABLE = (
    HTTPException,
    InvalidArgumentsError,
    InvalidOptionError,
    PayloadTooLargeError,
    RedactedArgumentsError,
    UnknownQueueError,
)
"""Errors that are shown beside the form, where they can be corrected."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is in the form, as it was typed."""

    queue: str
    priority: str
    run_at: str
    """Empty: it stays as it is."""
    arguments: str | None
    """None: they cannot be edited here."""
    why: str = ""

    @classmethod
    def of_form(cls, form: Mapping[str, str]) -> Draft:
        """Return what was sent."""
        return cls(
            form.get("queue", ""),
            form.get("priority", ""),
            form.get("run_at", ""),
            form.get("arguments"),
            form.get("why", ""),
        )

    def changes_from(self, before: Draft) -> dict[str, Any]:
        """Return what `edit` is to change. Raises HTTPException 422, InvalidFilterError."""
        changes: dict[str, Any] = {}
        if self.queue != before.queue:
            changes["queue"] = self.queue
        if self.priority != before.priority:
            changes["priority"] = number_in({"priority": self.priority}, "priority")
        if self.run_at and self.run_at != before.run_at:
            changes["run_at"] = _read_run_at(self.run_at)
        if self.arguments is not None and before.arguments is not None:
            given, stored = read_arguments(self.arguments), read_arguments(before.arguments)
            if editable(given) != editable(stored):
                changes["arguments"] = given
        return changes


def routes(pages: Pages) -> list[Route]:
    """Return the routes of the page and of its form."""
    own = EditPage(pages)
    return [
        Route("/jobs/{id}/edit", own.show),
        Route("/jobs/{id}/edit", own.edit, methods=["POST"]),
    ]


class EditPage:
    """The form of a waiting job."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def show(self, request: Request) -> Response:
        """Show the form."""
        job = await self._waiting(request)
        return self._form(request, job, self._draft(job))

    async def edit(self, request: Request) -> Response:
        """Change the job, or show the form again with what is wrong."""
        job = await self._waiting(request)
        settings = self._pages.settings
        draft = Draft.of_form(await read_form(request, settings, limit=settings.body_limit))
        try:
            changes = draft.changes_from(self._draft(job))
            reason = reason_in({"why": draft.why})
            await check_edit(
                request, self._pages.access, job, queue=changes.get("queue"), priority=changes.get("priority")
            )
            if changes:
                actor = self._pages.actor(request)
                await self._pages.pgq.edit(job.id, **changes, reason=reason, actor=actor)
        except CORRECTABLE as error:
            status, wrong = explain(error)
            if status not in (409, 413, 422):
                raise
            return self._form(request, job, draft, status, wrong)
        return self._pages.go(request, f"/jobs/{job.id}?done={'edited' if changes else 'nothing'}")

    async def _waiting(self, request: Request) -> Job:
        job = await self._pages.job(request, "edit")
        if job.status not in WAITING:
            raise JobNotWaitingError(job.id, job.status)
        return job

    def _draft(self, job: Job) -> Draft:
        return Draft(job.queue, str(job.priority), _typed(job.next_run_at), self._arguments(job))

    def _arguments(self, job: Job) -> str | None:
        if "arguments" in job.undecodable or self._pages.hides(job):
            return None
        definition = self._pages.pgq.registry.get(job.task)
        return editable(by_name(job.arguments, definition.arguments.parameters if definition else UNKNOWN))

    def _form(
        self, request: Request, job: Job, draft: Draft, status: int = 200, wrong: str | None = None
    ) -> Response:
        return self._pages.render(
            request,
            "job_edit.html",
            section="jobs",
            is_top=False,
            status=status,
            job=job,
            draft=draft,
            wrong=wrong,
            are_known=self._pages.pgq.registry.get(job.task) is not None,
        )


def _read_run_at(given: str) -> datetime | None:
    try:
        return read_time("run_at", given)
    except InvalidFilterError:
        problem = f"the run time must be like 2026-01-31T13:45:00 (UTC), got {given[:40]!r}"
        raise HTTPException(422, problem) from None


def _typed(at: datetime | None) -> str:
    """Return *at* as a field for times has it, to the second."""
    return "" if at is None else at.strftime("%Y-%m-%dT%H:%M:%S")
