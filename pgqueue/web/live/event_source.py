"""A response that is a stream of server-sent events. The one module that imports sse-starlette."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Receive, Scope, Send

from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.live.capacity import Capacity
from pgqueue.web.live.job_events import Event
from pgqueue.web.live.server_stop import ServerStop
from pgqueue.web.settings import WebSettings

logger = logging.getLogger("pgqueue.web")

SESSION_LOOK = 5.0
"""Seconds between two looks whether the login session of a stream has ended."""
RETRY = 3000
"""Milliseconds after which a client whose stream broke connects again."""


class EventStream(EventSourceResponse):
    """Sends events until there are no more, the client is gone or takes too long, or the server stops."""

    def __init__(
        self,
        events: AsyncGenerator[Event],
        *,
        capacity: Capacity,
        reader: str,
        settings: WebSettings,
        server_stop: ServerStop,
        has_ended: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """*has_ended*: whether the login session that may read the stream has ended; None: there is none."""
        super().__init__(
            _written(events),
            headers=NO_STORE,
            sep="\n",
            ping=settings.keep_alive,
            ping_message_factory=_sign_of_life,
        )
        self._capacity = capacity
        self._reader = reader
        self._server_stop = server_stop
        self._send_within = settings.send_timeout
        self._has_ended = has_ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream. Counts as a client from the first byte to the last."""
        is_complete = False

        async def send_in_time(message: Message) -> None:
            # Here, because the library sets no limit for the last message.
            nonlocal is_complete
            with anyio.fail_after(self._send_within):
                await send(message)
            is_complete = message["type"] == "http.response.body" and not message.get("more_body")

        with self._capacity.hold(self._reader):
            try:
                await self._stream(scope, receive, send_in_time)
                if not is_complete:
                    # The server is stopping: the stream ends properly and does not break.
                    await send_in_time({"type": "http.response.body", "body": b"", "more_body": False})
            except TimeoutError:
                logger.info("dropping event stream %s: its client does not read it", scope["path"])

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until there is no more, or the app ends its streams."""
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as open_for_now, self._server_stop.cancels(open_for_now):
                if self._has_ended is not None:
                    group.start_soon(_cancel_when, self._has_ended, open_for_now)
                await super().__call__(scope, receive, send)
            group.cancel_scope.cancel()


async def _cancel_when(has_ended: Callable[[], Awaitable[bool]], scope: anyio.CancelScope) -> None:
    """Cancel *scope* soon after the login session has ended."""
    while True:
        await anyio.sleep(SESSION_LOOK)
        try:
            if await has_ended():
                scope.cancel()
                return
        except Exception:
            # The stream itself says what the database's outage is to it; the next look comes.
            logger.debug("the session of an event stream could not be looked up", exc_info=True)


async def _written(events: AsyncGenerator[Event]) -> AsyncGenerator[ServerSentEvent]:
    retry: int | None = RETRY
    async with aclosing(events):
        async for event in events:
            yield ServerSentEvent(event.data, event=event.name, id=event.version, retry=retry, sep="\n")
            retry = None


def _sign_of_life() -> ServerSentEvent:
    return ServerSentEvent(comment="keep-alive", sep="\n")
