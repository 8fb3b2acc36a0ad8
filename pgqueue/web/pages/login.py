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
from pgqueue.web.pages.page import Pages, base_of
from pgqueue.web.security import sessions
from pgqueue.web.security.access import Access, check_own_page

PAUSE: Final = 0.5
"""Seconds that a wrong token costs. Failed logins are processed one at a time."""
MAX_WAITING: Final = 20
"""Failed logins that wait at once. Nothing is kept about who sent them."""


class Gate:
    """Slows down guessing, from whatever addresses, in bounded memory."""

    def __init__(self) -> None:
        self._turn = anyio.Lock()
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether another login would have to wait too long for its turn."""
        return self._waiting >= MAX_WAITING

    async def wait(self) -> None:
        """Wait for a wrong token's turn and its pause."""
        self._waiting += 1
        try:
            async with self._turn:
                await anyio.sleep(PAUSE)
        finally:
            self._waiting -= 1


def routes(pages: Pages) -> list[Route]:
    """Return the routes. They are open: no access is checked."""
    own = LoginPages(pages)
    return [
        Route("/login", own.show, name="login"),
        Route("/login", own.log_in, methods=["POST"]),
        Route("/logout", own.log_out, methods=["POST"]),
    ]


class LoginPages:
    """The login pages. An app without a token has none."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._gate = Gate()

    async def show(self, request: Request) -> Response:
        """Show the form."""
        self._token()
        return self._page(request, request.query_params.get("next", ""))

    async def log_in(self, request: Request) -> Response:
        """Set the cookie, if the token is right."""
        token = self._token()
        check_own_page(request)
        form = await read_form(request, self._pages.settings)
        # First of all: however many guess, the right token is let in at once.
        if not self._pages.access.is_token(form.get("token", "").strip()):
            if self._gate.is_full:
                raise HTTPException(429, "too many wrong tokens; try again later", {"Retry-After": "10"})
            await self._gate.wait()
            return self._page(request, form.get("next", ""), is_wrong=True)
        return let_in(request, token, page_within(base_of(request), form.get("next", "")))

    async def log_out(self, request: Request) -> Response:
        """End the session, in every process, and delete the cookie."""
        token = self._token()
        check_own_page(request)
        await self._pages.access.end_session(request)
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
        if self._pages.settings.token is None:
            raise HTTPException(404, "this app has no login: it has no token")
        return self._pages.settings.token

    def _page(self, request: Request, wanted: str, *, is_wrong: bool = False) -> Response:
        return self._pages.render(
            request,
            "login.html",
            section="login",
            status=403 if is_wrong else 200,
            is_wrong=is_wrong,
            wanted=wanted,
        )


def let_in(request: Request, token: str, page: str, *, mount: str | None = None) -> RedirectResponse:
    """Return a redirect to *page*, with the cookie of a new session.

    *mount*: the path of the whole app; that of a page of the dashboard, if not given.
    """
    answer = RedirectResponse(page, 303, headers=NO_STORE)
    answer.set_cookie(
        sessions.cookie_name(token),
        sessions.make_cookie(token, now=time.time()),
        max_age=sessions.LASTS,
        path=_mount_of(request) if mount is None else mount,
        secure=_is_https(request),
        httponly=True,
        samesite="strict",
    )
    return answer


def let_in_by_address(
    request: Request, access: Access, page: str, *, mount: str | None = None
) -> RedirectResponse | None:
    """Return what `let_in` does, if the address itself carries the token: `/?token=...`; otherwise None.

    The address that one leads to does not carry it.
    """
    given = request.query_params.get("token")
    if request.method != "GET" or given is None or not access.is_token(given):
        return None
    return let_in(request, given, page, mount=mount)


def to_login(request: Request, access: Access) -> RedirectResponse:
    """Return a redirect to the login, which leads back to the page that was requested."""
    base = base_of(request)
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
    page = f"{request.url.path}?{urlencode(kept)}".rstrip("?")
    if (let := let_in_by_address(request, access, page_within(base, page))) is not None:
        return let
    wanted = {"next": page} if request.method in ("GET", "HEAD") else {}
    return RedirectResponse(f"{base}/login?{urlencode(wanted)}".rstrip("?"), 303, headers=NO_STORE)


def page_within(base: str, wanted: str) -> str:
    """Return the page to go to after the login: *wanted* if it is below *base*, otherwise the first page."""
    is_within = wanted.startswith(f"{base}/") and wanted.isascii() and wanted.isprintable()
    return wanted if is_within and "\\" not in wanted and ".." not in wanted else f"{base}/"


def _mount_of(request: Request) -> str:
    """Return the path of the whole app: its event streams need the cookie too."""
    return base_of(request).removesuffix("/dashboard") or "/"


def _is_https(request: Request) -> bool:
    # A client can forge the header, which only keeps its own cookie from being sent over plain HTTP.
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
