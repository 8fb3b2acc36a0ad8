"""What holds for every request and response, whatever the route."""

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
    # Nothing in a job can become a script, a style or a request to another host.
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
"""Added where a response does not set them itself."""
_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

logger = logging.getLogger("pgqueue.web")


class Guard:
    """Bounds requests, adds HEADERS to responses, and tells no details of errors."""

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
                message["headers"] = [_without_host(scope, *each) for each in message["headers"]]
                said = {name for name, _ in message["headers"]}
                message["headers"] += [(name, value) for name, value in _HEADERS if name not in said]
            await send(message)

        app = oversize(scope) or self._app
        try:
            await app(scope, receive, send_guarded)
        except ClientDisconnect:
            # The client is gone.
            return
        except (Exception, SystemExit):
            # A SystemExit of a hook would end the server.
            if has_started:
                # Half an answer must not look like a whole one: the server closes the connection.
                raise
            logger.exception("%s %s failed", scope["method"], scope["path"])
            problem = Problem(500, "internal error; see the service's log")
            await problem(scope, receive, send_guarded)


def _without_host(scope: Scope, name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return a header; a redirect to the host that the request names loses it: anyone can send a name."""
    if name.lower() != b"location":
        return name, value
    for scheme in (b"http://", b"https://"):
        for field, host in scope["headers"]:
            if field == b"host" and value.startswith(scheme + host + b"/"):
                return name, b"/" + value.removeprefix(scheme + host).lstrip(b"/")
    return name, value


def oversize(scope: Scope) -> Problem | None:
    """Return the problem of a request that is too long; None: it is not."""
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    length = len(path) + len(scope["query_string"])
    if length > MAX_URL:
        return Problem(414, f"the URL must be at most {MAX_URL:,} bytes long, got {length:,}")
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MAX_HEADERS:
        return Problem(431, f"the headers must be at most {MAX_HEADERS:,} bytes long, got {size:,}")
    return None
