"""The HTTP clients of a worker: one for all its HTTP tasks, open for as long as the worker is.

httpx is an extra, and is imported when a worker with an HTTP task starts: who only enqueues does not need it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final

from pgqueue.errors import ConfigurationError
from pgqueue.model.checks import shown
from pgqueue.package import pip_install
from pgqueue.tasks.middleware import Middleware

if TYPE_CHECKING:
    import httpx

MakeClient = Callable[[], "httpx.AsyncClient"]
"""Makes the client of a task: with a proxy, a client certificate, or an authority of your own."""
KEPT: Final = 100
"""Connections that are kept open for the next request, at most."""


def library() -> Any:
    """Return httpx. Raises ConfigurationError."""
    try:
        import httpx
    except ImportError as error:
        raise ConfigurationError(f"HTTP tasks and webhooks need httpx: {pip_install('http')}") from error
    return httpx


def make_client() -> httpx.AsyncClient:
    """Return the usual client."""
    lib = library()
    # The request as a whole has a time limit. No target's cookie goes to another task of the same host.
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    limits = lib.Limits(max_connections=None, max_keepalive_connections=KEPT)
    client: httpx.AsyncClient = lib.AsyncClient(timeout=None, cookies=jar, limits=limits)
    return client


def make_public_client() -> httpx.AsyncClient:
    """Return the usual client, for requests to public addresses: its pool has no connection to others."""
    return make_client()


class Clients(Middleware):
    """Owns the clients of the workers of this process: they share one of each kind."""

    def __init__(self) -> None:
        self._makers: dict[MakeClient, None] = {}
        self._open: dict[MakeClient, httpx.AsyncClient] = {}
        self._workers = 0

    def add(self, make: MakeClient) -> None:
        """Have workers open a client by *make*."""
        self._makers[make] = None

    async def boot(self, worker: str) -> None:  # noqa: ARG002  # they share them
        """Open the clients with the first worker. Raises ConfigurationError."""
        if not self._workers:
            for make in self._makers:
                self._open[make] = _made_by(make)
        self._workers += 1

    async def shutdown(self, worker: str) -> None:  # noqa: ARG002  # they share them
        """Close the clients behind the last worker."""
        self._workers -= 1
        if not self._workers:
            closing, self._open = self._open, {}
            for client in closing.values():
                await client.aclose()

    @asynccontextmanager
    async def use(self, make: MakeClient) -> AsyncIterator[httpx.AsyncClient]:
        """Lend the client that *make* has made; without a worker, as in inline tests, one for this block."""
        client = self._open.get(make)
        if client is not None:
            yield client
            return
        async with _made_by(make) as own:
            yield own


def _made_by(make: MakeClient) -> httpx.AsyncClient:
    client: httpx.AsyncClient = make()
    kind: type = library().AsyncClient
    if not isinstance(client, kind):
        raise ConfigurationError(f"http_task: client must return an httpx.AsyncClient, got {shown(client)}")
    return client
