"""Many dead letters at once: a preview, a confirmation, and the progress of a mass redrive."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import InvalidFilterError
from pgqueue.model import figures
from pgqueue.model.dead_letters import MAX_COUNT, MAX_RATE, DeadLetterFilter
from pgqueue.web.named_in_path import find_redrive, read_progress
from pgqueue.web.pages.forms import number_in, read_form, reason_in
from pgqueue.web.pages.operation import show_operation
from pgqueue.web.pages.page import Pages

CAP: Final = 1000
"""Where counting stops."""
SAMPLE: Final = 20
NAMES: Final = ("task", "queue", "reason", "fingerprint", "error_type")

Verb = Literal["redrive", "discard"]


def read_filter(given: Mapping[str, str]) -> DeadLetterFilter:
    """Return the filter in a form or an address. Raises InvalidFilterError."""
    before = given.get("failed_before") or None
    try:
        failed_before = None if before is None else datetime.fromisoformat(before)
    except ValueError as error:
        raise InvalidFilterError(f"filter: failed_before must be a time, got {before!r}") from error
    chosen: dict[str, Any] = {name: given.get(name) or None for name in NAMES}
    return DeadLetterFilter(**chosen, failed_before=failed_before)


def routes(pages: Pages) -> list[Route]:
    """Return the routes of the pages and of their forms."""
    own = BulkPages(pages)
    return [
        Route("/dead-letters/redrive", own.preview_redrive),
        Route("/dead-letters/redrive", own.redrive, methods=["POST"]),
        Route("/dead-letters/discard", own.preview_discard),
        Route("/dead-letters/discard", own.discard, methods=["POST"]),
        Route("/redrives/{id}", own.show_redrive),
        Route("/redrives/{id}/cancel", own.cancel_redrive, methods=["POST"]),
    ]


class BulkPages:
    """Actions on many dead letters."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def preview_redrive(self, request: Request) -> Response:
        """Show which dead letters a mass redrive would apply to."""
        return await self._preview(request, "redrive")

    async def preview_discard(self, request: Request) -> Response:
        """Show which dead letters a mass discard would apply to."""
        return await self._preview(request, "discard")

    async def redrive(self, request: Request) -> Response:
        """Start a mass redrive."""
        chosen, form = await self._begin(request, "redrive")
        handle = await self._pages.pgq.redrive_many(
            chosen,
            rate=number_in(form, "rate"),
            reset_attempts="keep_attempts" not in form,
            reason=reason_in(form),
            actor=self._pages.actor(request),
        )
        return self._pages.go(request, f"/redrives/{handle.id}")

    async def discard(self, request: Request) -> Response:
        """Discard them."""
        chosen, form = await self._begin(request, "discard")
        count = await self._pages.pgq.discard_many(
            chosen, reason=reason_in(form), actor=self._pages.actor(request)
        )
        return self._pages.go(request, f"/dead-letters?done={'discarded' if count else 'nothing'}")

    async def show_redrive(self, request: Request) -> Response:
        """Show the progress of a mass redrive."""
        await self._pages.access.check_collection(request, "read", "dead_letters")
        progress = await read_progress(find_redrive(request, self._pages.pgq))
        return await show_operation(
            self._pages,
            request,
            progress,
            "redrive.html",
            at="redrives",
            section="dead-letters",
            heading="Mass redrive",
            stopped_by=("redrive", "dead_letters"),
            max_count=MAX_COUNT,
        )

    async def cancel_redrive(self, request: Request) -> Response:
        """Stop it."""
        await self._pages.access.check_collection(request, "redrive", "dead_letters")
        handle = find_redrive(request, self._pages.pgq)
        await read_progress(handle)
        done = await handle.cancel()
        return self._pages.go(request, f"/redrives/{handle.id}?done={'stopped' if done else 'nothing'}")

    async def _preview(self, request: Request, verb: Verb) -> Response:
        await self._pages.access.check_collection(request, verb, "dead_letters")
        self._check_not_owned(verb)
        chosen = read_filter(request.query_params)
        if chosen.is_empty and "all" not in request.query_params:
            raise InvalidFilterError(f"{verb}: select dead letters with a filter, or all of them with all=1")
        letters = (await self._pages.pgq.dead_letters(chosen, limit=CAP)).letters
        given = {name: value for name in NAMES if (value := getattr(chosen, name)) is not None}
        hidden = dict(given)
        if letters:
            # Jobs that fail after this page is shown were not confirmed, and are not included.
            hidden["failed_before"] = (letters[0].failed_at + timedelta(microseconds=1)).isoformat()
        return self._pages.render(
            request,
            "dead_preview.html",
            section="dead-letters",
            is_top=False,
            verb=verb,
            letters=letters,
            sample=letters[:SAMPLE],
            how_many=figures.capped(len(letters), CAP),
            chosen=given,
            hidden=hidden,
            max_rate=int(MAX_RATE),
            now=await self._pages.pgq.now(),
        )

    async def _begin(self, request: Request, verb: Verb) -> tuple[DeadLetterFilter, dict[str, str]]:
        """Return the filter and the form, if the requester may do *verb*."""
        await self._pages.access.check_collection(request, verb, "dead_letters")
        self._check_not_owned(verb)
        form = await read_form(request, self._pages.settings)
        chosen = read_filter(form)
        if chosen.failed_before is None:
            raise HTTPException(422, f"open the preview first; it shows which dead letters {verb} applies to")
        return chosen, form

    def _check_not_owned(self, verb: Verb) -> None:
        if self._pages.settings.has_owners:
            raise HTTPException(
                403, f"jobs have owners here; {verb} dead letters one at a time, on the pages of their jobs"
            )
