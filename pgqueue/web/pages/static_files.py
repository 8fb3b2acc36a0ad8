"""The stylesheet, the scripts and the icon, from the package."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.web.pages.format import is_dark
from pgqueue.web.settings import WebSettings

FOLDER: Final = Path(__file__).parent / "static"
TYPES: Final = {
    "style.css": "text/css; charset=utf-8",
    "local.js": "text/javascript; charset=utf-8",
    "keys.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "pick.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def routes(settings: WebSettings) -> list[Route]:
    """Return a route for each file. They tell nothing about jobs, so no access is checked."""
    files = {name: ((FOLDER / name).read_bytes(), kind) for name, kind in TYPES.items()}
    files["instance.css"] = (instance_style(settings.colour).encode(), TYPES["style.css"])
    return [_route(name, content, kind) for name, (content, kind) in files.items()]


def instance_style(colour: str | None) -> str:
    """Return the stylesheet of the instance's own colour, with text that can be read on it."""
    if colour is None:
        return "/* This instance has no colour of its own. */\n"
    text = "#ffffff" if is_dark(colour) else "#111111"
    return f":root {{ --band: {colour}; --on-band: {text}; }}\n"


def _route(name: str, content: bytes, kind: str) -> Route:
    etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}

    async def send(request: Request) -> Response:
        known = {
            each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")
        }
        if etag in known:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return Route(f"/static/{name}", send)
