"""Long polls: a poll that is answered when the job, or the workflow, has changed.

`?wait=SECONDS`, or `Prefer: wait=SECONDS` (RFC 7240). Changed since the version in If-None-Match, or else
since the request arrived. What has ended is shown at once, and anything when the server stops.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request

from pgqueue.errors import PgQueueError
from pgqueue.web.http.etags import matches, version_of
from pgqueue.web.live.capacity import Capacity
from pgqueue.web.live.server_stop import ServerStop
from pgqueue.web.settings import WebSettings

T = TypeVar("T")

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_PREFERENCE = re.compile(r'wait\s*=\s*"?(\d{1,9})"?', re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a client wants to wait, in seconds."""

    seconds: float
    is_preference: bool = False
    """Whether it asked with `Prefer`, and must be told that the preference was applied."""


def read_wait(query: str | None, prefer: Sequence[str], *, longest: float) -> Wait | None:
    """Return the wait in `?wait=`, or else in `Prefer`, cut to *longest*; None: in neither.

    Raises HTTPException 422 for a query that is not a number of seconds. A malformed preference is ignored,
    as RFC 7240 says.
    """
    if query is not None:
        if not _SECONDS.fullmatch(query):
            raise HTTPException(422, f"wait must be a number of seconds, zero or more, got {query!r}")
        return Wait(min(float(query), longest))
    for preference in (each for header in prefer for each in header.split(",")):
        # Parameters of the preference follow a semicolon.
        if found := _PREFERENCE.fullmatch(preference.partition(";")[0].strip()):
            return Wait(min(float(found[1]), longest), is_preference=True)
    return None


@dataclass(frozen=True, slots=True)
class Subject(Generic[T]):
    """What a kind of long poll waits for."""

    document: Callable[[T], object]
    """What the response shows: a change that is not in it is none."""
    is_over: Callable[[T], bool]
    """Whether it will not change any more."""
    watch: Callable[[T], AsyncGenerator[T]]
    """Yields it now, and whenever it changes."""


class LongPolls:
    """The long polls of one app."""

    def __init__(self, settings: WebSettings, server_stop: ServerStop) -> None:
        self._server_stop = server_stop
        self._longest = settings.max_wait
        self._capacity = Capacity(settings.max_waiters, "long polls")

    async def until_changed(
        self, request: Request, now: T, subject: Subject[T], reader: str
    ) -> tuple[T, dict[str, str]]:
        """Return *now*, which was just read, as it is after a change or the wait, and headers.

        *reader*: who waits, and shares the places with others.

        Raises HTTPException 422 for a malformed wait, 503 if too many wait; JobNotFoundError.
        """
        wait = read_wait(
            request.query_params.get("wait"), request.headers.getlist("prefer"), longest=self._longest
        )
        if wait is None:
            return now, {}
        headers = {"Preference-Applied": f"wait={wait.seconds:.0f}"} if wait.is_preference else {}
        known = version_of(subject.document(now))
        condition = request.headers.get("if-none-match")
        is_known = condition is None or matches(condition, known)
        if subject.is_over(now) or not is_known or not wait.seconds:
            return now, headers
        self._capacity.check(reader)
        with self._capacity.hold(reader):
            return await self._change(request, now, subject, known, wait.seconds), headers

    async def _change(self, request: Request, now: T, subject: Subject[T], known: str, seconds: float) -> T:
        failure: PgQueueError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, request, group.cancel_scope)
            try:
                with anyio.move_on_after(seconds) as scope, self._server_stop.cancels(scope):
                    async with aclosing(subject.watch(now)) as changes:
                        async for now in changes:  # noqa: PLR1704  # the latest is what is returned
                            if version_of(subject.document(now)) != known:
                                break
            except PgQueueError as error:
                # Raised below: the group would wrap it.
                failure = error
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return now


async def _cancel_when_gone(request: Request, scope: anyio.CancelScope) -> None:
    """Cancel *scope* when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
