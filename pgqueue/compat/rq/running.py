"""What a worker does around a job that was enqueued as in RQ: callbacks, and the Retry that it returns."""

from __future__ import annotations

import inspect
import pkgutil
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final
from weakref import WeakSet

import anyio.to_thread

from pgqueue import JobContext, Middleware, PgQueue
from pgqueue.compat.rq.connections import Redis
from pgqueue.compat.rq.exceptions import JobTimeoutException
from pgqueue.compat.rq.headers import ON_FAILURE, ON_SUCCESS, here
from pgqueue.compat.rq.job import current
from pgqueue.compat.rq.retry import Retry

_prepared: Final[WeakSet[PgQueue]] = WeakSet()


def prepare(connection: Redis) -> PgQueue:
    """Return the PgQueue of *connection*, whose workers know what RQ's know."""
    pgq = connection.pgqueue
    if pgq not in _prepared:
        _prepared.add(pgq)
        pgq.middleware(Callbacks(connection))
    return pgq


class Callbacks(Middleware):
    """Calls a job's `on_success` and `on_failure`, which its headers name, where its function was called."""

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    async def run(self, ctx: JobContext[Any], proceed: Callable[[], Awaitable[Any]]) -> Any:
        """Call the function, and after it the callback."""
        headers = ctx.headers
        here.set(self._connection)
        try:
            result = await proceed()
        except (Exception, JobTimeoutException):
            kind, error, trace = sys.exc_info()
            await self._call(headers.get(ON_FAILURE), ctx, kind, error, trace)
            raise
        if isinstance(result, Retry):
            if ctx.retries >= result.max:
                return None
            ctx.retry(countdown=result.interval_of(ctx.retries), max_retries=result.max)
        await self._call(headers.get(ON_SUCCESS), ctx, result)
        return result

    async def _call(self, path: str | None, ctx: JobContext[Any], *arguments: Any) -> None:
        if path is None:
            return
        callback = pkgutil.resolve_name(path)
        job = current(ctx, self._connection)
        if inspect.iscoroutinefunction(callback):
            await callback(job, self._connection, *arguments)
        else:
            await anyio.to_thread.run_sync(lambda: callback(job, self._connection, *arguments))
