"""The status app on a real server, for tests of what a transport in memory cannot show: streams."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp


@asynccontextmanager
async def serving(app: ASGIApp, *, grace: int | None = 1) -> AsyncIterator[str]:
    """Serve *app* on a free port of loopback; yield its URL.

    *grace*: seconds for which it waits for clients when it stops; None: as long as it takes.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, log_config=None, lifespan="off", access_log=False, timeout_graceful_shutdown=grace
        )
        server = uvicorn.Server(config)
        serve = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            with anyio.fail_after(60):
                while not server.started:  # noqa: ASYNC110  # it tells nobody
                    await anyio.sleep(0.01)
            port: int = listener.getsockname()[1]
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await serve
