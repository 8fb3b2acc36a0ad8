"""Event streams, as a client reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse

from pgqueue import JobHandle, PgQueue

WITHIN = 60.0


@asynccontextmanager
async def listening(
    client: httpx.AsyncClient, url: str, *, last: str | None = None
) -> AsyncIterator[tuple[EventSource, AsyncIterator[ServerSentEvent]]]:
    """Open a stream."""
    headers = {} if last is None else {"Last-Event-ID": last}
    async with aconnect_sse(client, "GET", url, headers=headers) as source:
        yield source, source.aiter_sse()


async def following(events: AsyncIterator[ServerSentEvent]) -> ServerSentEvent:
    """Return the next event."""
    with anyio.fail_after(WITHIN):
        return await anext(events)


async def waiting_job(pgq: PgQueue) -> JobHandle[Any]:
    """Enqueue a job that nobody runs."""

    @pgq.task(queue="nobody works here")
    async def idle() -> None: ...

    job: JobHandle[Any] = await idle.enqueue()
    return job
