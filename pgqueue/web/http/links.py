"""Paths of the app's routes, wherever it is mounted."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request


def path_to(request: Request, name: str, **parameters: str) -> str:
    """Return the path of the app's route called *name*, from the root of the host.

    A path and not a URL: a proxy in front may speak another scheme, and a client can put any host into its
    request. (Starlette's own `url_for` looks among the routes of the outermost app, under the mount's name.)
    """
    # A name may be any text, with slashes and line breaks.
    quoted = {each: quote(text, safe="") for each, text in parameters.items()}
    path = request.app.url_path_for(name, **quoted)
    return quote(request.scope.get("root_path", ""), safe="/:@!$&'()*+,;=~") + str(path)
