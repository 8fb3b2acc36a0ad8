"""Many dead letters at once: a preview, a confirmation, and how far a mass redrive has come."""

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
from pgqueue.web.pages.page import Desk

CAP: Final = 1000
"""What counts stop at."""
SAMPLE: Final = 20
NAMES: Final = ("task", "queue", "reason", "fingerprint", "error_type")

Verb = Literal["redrive", "discard"]


def read_filter(given: Mapping[str, str]) -> DeadLetterFilter:
    """Return the filter in a form or an address. Raises InvalidFilterError."""
    before = given.get("failed_before") or None
    try:
        failed_before = None if before is None else datetime.fromisoformat(before)
    except ValueError as error:
        raise InvalidFilterError(f"filter: failed_before is {before!r}: give a time") from error
    chosen: dict[str, Any] = {name: given.get(name) or None for name in NAMES}
    return DeadLetterFilter(**chosen, failed_before=failed_before)


class BulkPages:
    """What is done to many dead letters."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """Return the routes of the pages and of their forms."""
        return [
            Route("/dead-letters/redrive", self.preview_redrive),
            Route("/dead-letters/redrive", self.redrive, methods=["POST"]),
            Route("/dead-letters/discard", self.preview_discard),
            Route("/dead-letters/discard", self.discard, methods=["POST"]),
            Route("/redrives/{id}", self.show_redrive),
            Route("/redrives/{id}/cancel", self.cancel_redrive, methods=["POST"]),
        ]

    async def preview_redrive(self, request: Request) -> Response:
        """Show what a mass redrive would take in."""
        return await self._preview(request, "redrive")

    async def preview_discard(self, request: Request) -> Response:
        """Show what a mass discard would take in."""
        return await self._preview(request, "discard")

    async def redrive(self, request: Request) -> Response:
        """Begin a mass redrive."""
        chosen, form = await self._begin(request, "redrive")
        handle = await self._desk.pgq.redrive_many(
            chosen,
            rate=number_in(form, "rate"),
            reset_attempts="keep_attempts" not in form,
            reason=reason_in(form),
            actor=self._desk.actor(request),
        )
        return self._desk.go(request, f"/redrives/{handle.id}")

    async def discard(self, request: Request) -> Response:
        """Discard."""
        chosen, form = await self._begin(request, "discard")
        count = await self._desk.pgq.discard_many(
            chosen, reason=reason_in(form), actor=self._desk.actor(request)
        )
        return self._desk.go(request, f"/dead-letters?done={'discarded' if count else 'nothing'}")

    async def show_redrive(self, request: Request) -> Response:
        """Show how far a mass redrive has come."""
        await self._desk.access.check_everybodys(request, "read", "dead_letters")
        progress = await read_progress(find_redrive(request, self._desk.pgq))
        return self._desk.render(
            request,
            "redrive.html",
            section="dead-letters",
            is_top=False,
            events="" if progress.is_over else "/events",
            redrive=progress,
            max_count=MAX_COUNT,
            now=await self._desk.pgq.now(),
        )

    async def cancel_redrive(self, request: Request) -> Response:
        """Stop it."""
        await self._desk.access.check_everybodys(request, "redrive", "dead_letters")
        handle = find_redrive(request, self._desk.pgq)
        await read_progress(handle)
        done = await handle.cancel()
        return self._desk.go(request, f"/redrives/{handle.id}?done={'stopped' if done else 'nothing'}")

    async def _preview(self, request: Request, verb: Verb) -> Response:
        await self._desk.access.check_everybodys(request, verb, "dead_letters")
        self._check_not_owned(verb)
        chosen = read_filter(request.query_params)
        if chosen.is_empty and "all" not in request.query_params:
            raise InvalidFilterError(f"{verb}: say which dead letters are meant, or all=1 for every one")
        letters = (await self._desk.pgq.dead_letters(chosen, limit=CAP)).letters
        given = {name: value for name in NAMES if (value := getattr(chosen, name)) is not None}
        hidden = dict(given)
        if letters:
            # What fails between this page and its confirmation was not shown, and is not meant.
            hidden["failed_before"] = (letters[0].failed_at + timedelta(microseconds=1)).isoformat()
        return self._desk.render(
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
            now=await self._desk.pgq.now(),
        )

    async def _begin(self, request: Request, verb: Verb) -> tuple[DeadLetterFilter, dict[str, str]]:
        """Return what is meant and the form, if the requester may."""
        await self._desk.access.check_everybodys(request, verb, "dead_letters")
        self._check_not_owned(verb)
        form = await read_form(request, self._desk.settings)
        chosen = read_filter(form)
        if chosen.failed_before is None:
            raise HTTPException(422, f"look at the preview first: it says what {verb} takes in")
        return chosen, form

    def _check_not_owned(self, verb: Verb) -> None:
        if self._desk.settings.owns is not None:
            raise HTTPException(
                403, f"jobs have owners here: {verb} dead letters one by one, on the pages of their jobs"
            )
