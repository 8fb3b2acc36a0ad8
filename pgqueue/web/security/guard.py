"""What holds for every request and every response, whatever route it takes."""

from __future__ import annotations

import logging
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pgqueue.web.http.problems import Problem

MAX_URL: Final = 8 * 1024
"""Bytes of path and query."""
MAX_HEADERS: Final = 32 * 1024
"""Bytes of all names and values."""

HEADERS: Final = {
    # Nothing that a job carries can become a script, a style or a request to elsewhere.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": with that, browsers send the app's own forms with "Origin: null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Where a response does not say otherwise."""
_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

logger = logging.getLogger("pgqueue.web")


class Guard:
    """Bounds what is asked, adds HEADERS to what is answered, and tells no details of errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def send_guarded(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                said = {name for name, _ in message["headers"]}
                message["headers"] += [(name, value) for name, value in _HEADERS if name not in said]
            await send(message)

        app = excess(scope) or self._app
        try:
            await app(scope, receive, send_guarded)
        except ClientDisconnect:
            # Nobody is there to be answered.
            return
        except Exception:
            if has_started:
                # Half an answer must not look like a whole one: the server closes the connection.
                raise
            logger.exception("%s %s failed", scope["method"], scope["path"])
            problem = Problem(500, "this is a mistake of the service; its log says more")
            await problem(scope, receive, send_guarded)


def excess(scope: Scope) -> Problem | None:
    """Return what is too long about a request; None: nothing."""
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    length = len(path) + len(scope["query_string"])
    if length > MAX_URL:
        return Problem(414, f"the address is {length:,} bytes long: {MAX_URL:,} at most")
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MAX_HEADERS:
        return Problem(431, f"the headers are {size:,} bytes long: {MAX_HEADERS:,} at most")
    return None
