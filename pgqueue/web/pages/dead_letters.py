"""The pages of dead letters: groups by error, and one group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import InvalidFilterError, JobNotFoundError
from pgqueue.model.dead_letters import DeadLetterFilter, DeadLetterGroup
from pgqueue.model.jobs import Job
from pgqueue.web.pages.page import Offers, Pages, base_of
from pgqueue.web.security.access import Ask

GROUPS: Final = 100
CAP: Final = 1000
"""Where counting stops."""
PAGE: Final = 50
MANY: Final[Sequence[Ask]] = (("redrive", "dead_letters"), ("discard", "dead_letters"))
SEARCHED: Final = ("task", "reason", "error_type")


def routes(pages: Pages) -> list[Route]:
    """Return the routes of the pages."""
    own = DeadLetterPages(pages)
    return [
        Route("/dead-letters", own.groups),
        Route("/dead-letters/{fingerprint}", own.group),
    ]


class DeadLetterPages:
    """Dead letters, grouped by error."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def groups(self, request: Request) -> Response:
        """Show the groups; or the dead letters of a queue, as many as its figure says."""
        await self._pages.access.check_collection(request, "read", "dead_letters")
        queue = request.query_params.get("queue")
        if queue:
            return await self._list(request, DeadLetterFilter(queue=queue))
        texts = {name: request.query_params.get(name, "").strip() for name in SEARCHED}
        search = {name: text for name, text in texts.items() if text}
        wrong: str | None = None
        found: list[DeadLetterGroup] = []
        try:
            found = await self._pages.pgq.dead_groups(**search, limit=GROUPS, cap=CAP)
        except InvalidFilterError as error:
            wrong = str(error)
        visible = await self._pages.visible_ids(request, (group.latest.job_id for group in found))
        return self._pages.render(
            request,
            "dead_letters.html",
            section="dead-letters",
            status=422 if wrong else 200,
            events="/events",
            texts=texts,
            search=urlencode(search),
            wrong=wrong,
            groups=[group for group in found if group.latest.job_id in visible],
            cap=CAP,
            most=GROUPS,
            may=await self._offers(request),
            now=await self._pages.pgq.now(),
        )

    async def group(self, request: Request) -> Response:
        """Show one group and its dead letters."""
        await self._pages.access.check_collection(request, "read", "dead_letters")
        return await self._list(request, DeadLetterFilter(fingerprint=request.path_params["fingerprint"]))

    async def _list(self, request: Request, chosen: DeadLetterFilter) -> Response:
        """Show a page of the dead letters that match *chosen*, by its fingerprint or its queue."""
        cursor = request.query_params.get("cursor") or None
        page = await self._pages.pgq.dead_letters(chosen, limit=PAGE, cursor=cursor)
        visible = await self._pages.visible_ids(request, (letter.job_id for letter in page.letters))
        letters = [letter for letter in page.letters if letter.job_id in visible]
        is_group = chosen.queue is None
        latest = await self._find_job(letters[0].job_id) if letters and is_group else None
        here = f"{base_of(request)}{request.url.path.removeprefix(base_of(request))}"
        search = {"fingerprint": chosen.fingerprint} if is_group else {"queue": chosen.queue}
        kept = {} if is_group else search
        return self._pages.render(
            request,
            "dead_group.html",
            section="dead-letters",
            is_top=False,
            # After an action the group may be empty: the page says so, and is not an error.
            status=200 if letters or not is_group or "done" in request.query_params else 404,
            events="" if cursor else "/events",
            queue=chosen.queue,
            search=urlencode(search),
            example=letters[0] if letters else None,
            error=latest.error if latest else None,
            letters=letters,
            may=await self._offers(request),
            older=f"{here}?{urlencode({**kept, 'cursor': page.cursor})}" if page.cursor else None,
            newest=(f"{here}?{urlencode(kept)}" if kept else here) if cursor else None,
            show_tracebacks=self._pages.settings.show_tracebacks,
            now=await self._pages.pgq.now(),
        )

    async def _offers(self, request: Request) -> Offers:
        # Where jobs have owners, dead letters are redriven and discarded one at a time.
        asks: Sequence[Ask] = [] if self._pages.access.has_owners else MANY
        return await self._pages.offers(request, *asks)

    async def _find_job(self, job_id: UUID) -> Job | None:
        try:
            return await self._pages.pgq.get(job_id)
        except JobNotFoundError:
            return None
