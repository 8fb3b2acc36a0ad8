"""The routes of the status app, for tests that ask all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from starlette.applications import Starlette
from starlette.routing import Mount, Route


def routes_of(app: Starlette, names: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every method and path of *app*, with *names* in the place of its parameters."""
    for route in app.routes:
        if isinstance(route, Mount):
            assert isinstance(route.app, Starlette)
            yield from routes_of(route.app, names, prefix + route.path)
        elif isinstance(route, Route):
            path = prefix + route.path.replace(":name}", "}").format_map(names)
            yield from ((method, path) for method in sorted(route.methods or ()))
