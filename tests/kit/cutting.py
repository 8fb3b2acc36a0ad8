"""A proxy before a server that goes away at the n-th message: before that was sent, or before its answer."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import anyio

from kit.accepting import Accepted

Connection: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect: TypeAlias = Callable[[], Awaitable[Connection]]


class CuttingProxy:
    """Stands before a server that can go away and come back."""

    def __init__(self, dsn: str, connect: Connect) -> None:
        self.dsn = dsn
        self._connect = connect
        self.left: int | None = None
        """Messages that still come by; None: all do."""
        self.is_sent = False
        """Whether the message at which it goes away reaches the server."""
        self.is_away = False
        self.seen = 0
        """Messages that have come by."""
        self.accepted = Accepted(self._serve)

    def go_away(self, after: int, *, is_sent: bool) -> None:
        """Go away at the message *after* so many others, which reaches the server where it *is_sent*."""
        self.left, self.is_sent = after, is_sent

    def come_back(self) -> bool:
        """Come back; return whether it was away."""
        was_away, self.left, self.is_away = self.is_away, None, False
        return was_away

    async def close(self) -> None:
        """Cut all connections."""
        await self.accepted.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_away:
            return
        from_server, to_server = await self._connect()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._forth, reader, to_server, group.cancel_scope)
                group.start_soon(self._back, from_server, writer, group.cancel_scope)
        finally:
            to_server.transport.abort()

    async def _forth(
        self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter, scope: anyio.CancelScope
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self.seen += 1
                if self.left is not None:
                    self.left -= 1
                    if self.left < 0:
                        self.is_away = True
                        if self.is_sent:
                            to_server.write(data)
                            # The server is at it, and nobody hears the answer.
                            await asyncio.sleep(0.03)
                        break
                if self.is_away:
                    break
                to_server.write(data)
        scope.cancel()

    async def _back(
        self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter, scope: anyio.CancelScope
    ) -> None:
        with suppress(OSError):
            while (data := await from_server.read(65536)) and not self.is_away:
                writer.write(data)
        scope.cancel()


@asynccontextmanager
async def cutting_proxy(dsn: str, options: str = "") -> AsyncIterator[CuttingProxy]:
    """Put a proxy before the server of *dsn*; its own DSN leads through it, with further *options*."""
    parts = urlsplit(dsn)
    folder_of_server = dict(parse_qsl(parts.query)).get("host")
    port = parts.port or 5432

    async def connect() -> Connection:
        if folder_of_server is None:
            return await asyncio.open_connection(parts.hostname, port)
        return await asyncio.open_unix_connection(f"{folder_of_server}/.s.PGSQL.{port}")

    credentials = parts.netloc.rpartition("@")[0]
    with tempfile.TemporaryDirectory(prefix="pgqueue-cutting-") as folder:
        near = parts._replace(
            netloc=f"{credentials}@" if credentials else "", query=f"host={quote(folder)}{options}"
        )
        away = CuttingProxy(urlunsplit(near), connect)
        server = await asyncio.start_unix_server(away.accepted.accept, Path(folder) / ".s.PGSQL.5432")
        try:
            yield away
        finally:
            await away.accepted.close(server)
