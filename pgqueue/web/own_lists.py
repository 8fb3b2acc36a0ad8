"""Pages of the requester's own jobs, where jobs have owners.

Such a page must not tell of the jobs of others: neither by being short, nor by having a next one, nor by the
place at which that begins. Its cursor is sealed. Where a header names the owner and there is an index of
owners, the database finds the rows without looking at the jobs of others, so that the time it takes tells
nothing of them either; otherwise all rows are read. The page is filled by reading on, and has a next one only
if that has something to show.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from starlette.requests import Request

from pgqueue.app import PgQueue
from pgqueue.errors import InvalidFilterError
from pgqueue.model.dead_letters import DeadLetter, DeadLetterFilter
from pgqueue.model.filters import JobFilter
from pgqueue.model.jobs import Job
from pgqueue.web.named_in_path import visible_ids
from pgqueue.web.security.access import Access
from pgqueue.web.security.sealing import seal, unseal

T = TypeVar("T")

PART: Final = 200
"""What is read at once."""
MAX_PARTS: Final = 10
"""Reads per page. Beyond them a page may be short, and have a next one that is empty."""

logger = logging.getLogger("pgqueue.web")


Read = Callable[[int, str | None], Awaitable[tuple[Sequence[T], str | None]]]
"""Returns at most so many rows, from a cursor on, and the cursor of the next ones."""
Owned = Callable[[Sequence[T]], Awaitable[Sequence[bool]]]
"""Returns which rows are the requester's."""


async def own_page(
    read: Read[T], owned: Owned[T], limit: int, cursor: str | None
) -> tuple[list[T], str | None]:
    """Return up to *limit* owned rows from *cursor* on, and the cursor of the next ones, or None."""
    page: list[T] = []
    end: str | None = None
    for _ in range(MAX_PARTS):
        rows, after = await read(PART, cursor)
        places = [place for place, is_own in enumerate(await owned(rows)) if is_own]
        if len(page) == limit and places:
            return page, end
        room = limit - len(page)
        page += [rows[place] for place in places[:room]]
        if room and len(page) == limit:
            last = places[room - 1] + 1
            # Where the page ends inside this part, as the list itself counts.
            end = after if last == len(rows) else (await read(last, cursor))[1]
            if len(places) > room:
                return page, end
        if after is None:
            return page, None
        cursor = after
    return page, cursor if len(page) < limit else end


async def jobs_page(
    request: Request, pgq: PgQueue, access: Access, chosen: JobFilter, limit: int, cursor: str | None
) -> tuple[list[Job], str | None]:
    """Return the requester's jobs that match *chosen*, and the next cursor. Raises InvalidFilterError."""
    owner = await _indexed_owner(request, pgq, access)

    async def read(most: int, at: str | None) -> tuple[Sequence[Job], str | None]:
        if owner is not None:
            page = await pgq.owned_jobs(owner, chosen, limit=most, cursor=at, large_results=False)
        else:
            page = await pgq.jobs(chosen, limit=most, cursor=at, large_results=False)
        return page.jobs, page.cursor

    async def owned(jobs: Sequence[Job]) -> list[bool]:
        return [await access.owns(request, job) for job in jobs]

    return await _page(request, pgq, access, "jobs", read, owned, limit, cursor)


async def letters_page(
    request: Request, pgq: PgQueue, access: Access, chosen: DeadLetterFilter, limit: int, cursor: str | None
) -> tuple[list[DeadLetter], str | None]:
    """Return the dead letters of *request*, as `jobs_page`. Raises InvalidFilterError."""
    owner = await _indexed_owner(request, pgq, access)

    async def read(most: int, at: str | None) -> tuple[Sequence[DeadLetter], str | None]:
        if owner is not None:
            page = await pgq.owned_letters(owner, chosen, limit=most, cursor=at)
        else:
            page = await pgq.dead_letters(chosen, limit=most, cursor=at)
        return page.letters, page.cursor

    async def owned(letters: Sequence[DeadLetter]) -> list[bool]:
        visible = await visible_ids(request, pgq, access, (letter.job_id for letter in letters))
        return [letter.job_id in visible for letter in letters]

    return await _page(request, pgq, access, "dead letters", read, owned, limit, cursor)


async def _page(
    request: Request,
    pgq: PgQueue,
    access: Access,
    what: str,
    read: Read[T],
    owned: Owned[T],
    limit: int,
    cursor: str | None,
) -> tuple[list[T], str | None]:
    if not access.has_owners:
        rows, after = await read(limit, cursor)
        return list(rows), after
    secret = await pgq.web_secret()
    context = f"{what} of {access.key_scope(request)}"
    if cursor is not None:
        place = unseal(secret, cursor, context=context)
        if place is None:
            raise InvalidFilterError(
                f"invalid cursor {cursor[:200]!r}: use one returned with a page, or omit it to start over"
            )
        cursor = place
    page, after = await own_page(read, owned, limit, cursor)
    return page, None if after is None else seal(secret, after, context=context)


async def _indexed_owner(request: Request, pgq: PgQueue, access: Access) -> str | None:
    """Return the owner by whom the database can find jobs; None: reading all jobs finds the requester's."""
    owner = access.owner_of(request)
    if not owner:
        return None
    if await pgq.has_owner_index():
        return owner
    logger.warning(
        "there is no index of owners: lists of a user's jobs read the jobs of all; make it once by "
        "`await pgq.index_owners()`"
    )
    return None
