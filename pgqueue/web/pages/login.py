"""Logging in with the app's token, and out."""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import urlencode

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.pages.forms import read_form
from pgqueue.web.pages.page import Desk, base_of
from pgqueue.web.security import sessions
from pgqueue.web.security.origins import Origin, origin_of

PAUSE: Final = 0.5
"""Seconds that a wrong token costs; they are served one after the other."""
MAX_WAITING: Final = 20
"""Wrong tokens that wait at once. Nothing is remembered of who sent them."""


class Gate:
    """Slows guessing down, whoever guesses and from wherever, in bounded memory."""

    def __init__(self) -> None:
        self._turn = anyio.Lock()
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether a try would have to wait too long for its turn."""
        return self._waiting >= MAX_WAITING

    async def wait(self) -> None:
        """Wait as whoever was wrong has to."""
        self._waiting += 1
        try:
            async with self._turn:
                await anyio.sleep(PAUSE)
        finally:
            self._waiting -= 1


class LoginPages:
    """The pages of the login. There are none in an app without a token."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._gate = Gate()

    def routes(self) -> list[Route]:
        """Return the routes. They are for everybody: no access is checked."""
        return [
            Route("/login", self._show, name="login"),
            Route("/login", self._log_in, methods=["POST"]),
            Route("/logout", self._log_out, methods=["POST"]),
        ]

    async def _show(self, request: Request) -> Response:
        self._token()
        return self._page(request, request.query_params.get("next", ""))

    async def _log_in(self, request: Request) -> Response:
        token = self._token()
        _check_own_page(request)
        form = await read_form(request, self._desk.settings)
        # Before the token is looked at: a guess that is not slowed down must not be answered.
        if self._gate.is_full:
            raise HTTPException(429, "too many wrong tokens lately: try again soon", {"Retry-After": "10"})
        if not self._desk.access.is_token(form.get("token", "").strip()):
            await self._gate.wait()
            return self._page(request, form.get("next", ""), is_wrong=True)
        answer = RedirectResponse(page_within(base_of(request), form.get("next", "")), 303, headers=NO_STORE)
        answer.set_cookie(
            sessions.cookie_name(token),
            sessions.make_cookie(token, now=time.time()),
            max_age=sessions.LASTS,
            path=_mount_of(request),
            secure=_is_https(request),
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _log_out(self, request: Request) -> Response:
        token = self._token()
        _check_own_page(request)
        answer = RedirectResponse(f"{base_of(request)}/login", 303, headers=NO_STORE)
        answer.delete_cookie(
            sessions.cookie_name(token),
            path=_mount_of(request),
            secure=_is_https(request),
            httponly=True,
            samesite="strict",
        )
        return answer

    def _token(self) -> str:
        if self._desk.settings.token is None:
            raise HTTPException(404, "this app has no token to log in with")
        return self._desk.settings.token

    def _page(self, request: Request, wanted: str, *, is_wrong: bool = False) -> Response:
        return self._desk.render(
            request,
            "login.html",
            section="login",
            status=403 if is_wrong else 200,
            is_wrong=is_wrong,
            wanted=wanted,
        )


def to_login(request: Request) -> RedirectResponse:
    """Return the way to the login, and back from there to the page that was asked for."""
    base = base_of(request)
    query = f"?{request.url.query}" if request.url.query else ""
    wanted = {"next": f"{request.url.path}{query}"} if request.method in ("GET", "HEAD") else {}
    return RedirectResponse(f"{base}/login?{urlencode(wanted)}".rstrip("?"), 303, headers=NO_STORE)


def page_within(base: str, wanted: str) -> str:
    """Return the page to go on to: *wanted* if it is one below *base*, else the first."""
    is_within = wanted.startswith(f"{base}/") and wanted.isascii() and wanted.isprintable()
    return wanted if is_within and "\\" not in wanted and ".." not in wanted else f"{base}/"


def _check_own_page(request: Request) -> None:
    if origin_of(request) is not Origin.SAME:
        raise HTTPException(403, "this was not sent by a page of this app: open the page and try there")


def _mount_of(request: Request) -> str:
    """Return the path of the whole app: its event streams need the cookie too."""
    return base_of(request).removesuffix("/dashboard") or "/"


def _is_https(request: Request) -> bool:
    # The header may be anybody's, and can do no more than keep his own cookie from plain HTTP.
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
