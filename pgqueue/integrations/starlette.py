"""Starlette, and frameworks on it: an app that opens a PgQueue, and endpoints that are given it.

app = Starlette(lifespan=lifespan(pgq), routes=[Route("/sign-up", sign_up, methods=["POST"])])

async def sign_up(request: Request) -> Response:
    await queue_of(request).enqueue(send_email.s("user@example.com"))
    return Response(status_code=202)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from pgqueue.app import PgQueue
from pgqueue.errors import ConfigurationError, NotOpenError
from pgqueue.worker import Worker

AppT = TypeVar("AppT", bound=Starlette)

STATE: Final = "pgqueue"
"""Under which name a request's state has the PgQueue."""


def lifespan(
    pgq: PgQueue,
    *,
    around: Callable[[AppT], AbstractAsyncContextManager[Mapping[str, Any] | None]] | None = None,
    worker: Callable[[], Worker] | None = None,
    migrate: bool = False,
) -> Callable[[AppT], AbstractAsyncContextManager[dict[str, Any]]]:
    """Return the lifespan of an app: *pgq* is open while the app runs, and endpoints find it in their state.

    *around*: a lifespan of your own. It begins when the PgQueue is open, and ends before it is closed; what
    it yields is in the state, too. *worker*: runs a worker beside the app, in each of its processes:
    `worker=pgq.worker`, or `lambda: pgq.worker(concurrency=5)`. When the app stops, the worker finishes its
    jobs within its grace. *migrate*: brings the schema up to date first; processes that start at once do it
    once.

    Raises ConfigurationError. The app fails to start with what `PgQueue.open` and `PgQueue.migrate` raise.
    """
    if not isinstance(pgq, PgQueue):
        raise ConfigurationError(f"lifespan: the first argument must be a PgQueue, got {pgq!r}")
    if worker is not None and not callable(worker):
        raise ConfigurationError(
            f"lifespan: worker must be a function that returns a worker, such as pgq.worker; got {worker!r}"
        )

    @asynccontextmanager
    async def running(app: AppT) -> AsyncIterator[dict[str, Any]]:
        if migrate:
            await pgq.migrate()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(pgq)
            state = None if around is None else await stack.enter_async_context(around(app))
            if worker is not None:
                await stack.enter_async_context(worker())
            yield {**(state or {}), STATE: pgq}

    return running


def queue_of(connection: HTTPConnection) -> PgQueue:
    """Return the PgQueue of the app that a request, or a WebSocket, belongs to.

    Raises NotOpenError if the app was made, or is run, without `lifespan(pgq)`.
    """
    pgq = getattr(connection.state, STATE, None)
    if not isinstance(pgq, PgQueue):
        raise NotOpenError(
            "this app has no PgQueue: make it with lifespan=lifespan(pgq), and run it where lifespans run; a "
            "mounted app has the PgQueue of the app around it, and httpx runs no lifespan in tests"
        )
    return pgq
