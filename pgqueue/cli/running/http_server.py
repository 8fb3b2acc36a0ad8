"""Serves an ASGI app while a command does its work.

This imports an HTTP server and the status app, which takes as long as everything else that a command imports.
Import this module only where something is served.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import anyio
import uvicorn

from pgqueue.own_tasks import own_task
from pgqueue.web import end_streams

PAUSE: Final = 0.5
"""Seconds before a server that ended by itself is started again."""

logger = logging.getLogger("pgqueue.cli")


@asynccontextmanager
async def serving(app: Callable[..., Any], listener: socket.socket, *, grace: int = 1) -> AsyncIterator[str]:
    """Serve *app* on *listener* inside the block; yield its address. Signals are left to the caller.

    A server that ends by itself is started again.

    *grace*: seconds for running requests to finish at the end of the block.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Any client can send these headers, so they do not prove where a request comes from.
        proxy_headers=False,
        timeout_graceful_shutdown=grace,
    )
    server = _Server(config)
    is_over = False

    async def serve() -> None:
        nonlocal server
        while not is_over:
            # A server closes its sockets; the next one needs them.
            sockets = [listener.dup()]
            try:
                await server.serve(sockets=sockets)
            except (Exception, SystemExit):
                logger.exception("the HTTP server failed")
                if server.started:
                    await server.shutdown(sockets=sockets)
            if not is_over:
                logger.error("the HTTP server ended by itself; starting it again")
                await anyio.sleep(PAUSE)
                server = _Server(config)

    task = own_task(serve())
    host, port = listener.getsockname()[:2]
    try:
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        end_streams(app)
        is_over = server.should_exit = True
        await task
        listener.close()


class _Server(uvicorn.Server):
    """Leaves the signals to the program around it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals."""
        yield
