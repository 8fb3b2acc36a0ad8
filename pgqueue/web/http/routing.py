"""Choosing the route of a request where paths overlap."""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import Scope


class AnyName(Convertor[str]):
    """Any text, including names with slashes or line breaks."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Return the text."""
        return value

    def to_string(self, value: str) -> str:
        """Return the text."""
        return value


register_url_convertor("name", AnyName())


class FixedRoute(Route):
    """Has its path to itself, whatever the method: `/jobs/cancel` is not a job called "cancel"."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether *scope* is for this route."""
        match, child = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL else match), child


def allowed_methods(request: Request) -> list[str]:
    """Return the methods that there are for the path of *request*."""
    allowed: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            allowed |= route.methods or set()
            if isinstance(route, FixedRoute):
                break
    return sorted(allowed)
