"""The HTTP server of a command is there for as long as the command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pgqueue.cli.running.http_server import serving
from pgqueue.cli.running.sockets import listen


def leave() -> bool:
    return True


def fail() -> bool:
    raise RuntimeError("broken")


def give_up() -> bool:
    raise SystemExit(1)


@pytest.mark.contract("W21")
@pytest.mark.parametrize("end", [leave, fail, give_up])
async def test_a_server_that_ends_by_itself_is_started_again(
    end: Callable[[], bool], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended = anyio.Event()
    on_tick = uvicorn.Server.on_tick

    async def end_once(server: uvicorn.Server, counter: int) -> bool:
        if ended.is_set():
            return await on_tick(server, counter)
        ended.set()
        return end()

    monkeypatch.setattr(uvicorn.Server, "on_tick", end_once)

    async def hello(_: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    with anyio.fail_after(180):
        async with (
            serving(Starlette(routes=[Route("/", hello)]), listen("127.0.0.1", 0)) as address,
            httpx.AsyncClient(base_url=address, timeout=60) as client,
        ):
            await ended.wait()
            answer = await client.get("/")

        assert answer.text == "hello"
        assert "ended by itself" in caplog.text
        # Its port is free again.
        with pytest.raises(OSError, match=r"refused|failed"):
            await anyio.connect_tcp("127.0.0.1", httpx.URL(address).port or 0)
