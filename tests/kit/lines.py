"""A line to the database that tests can cut."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from kit import inside
from kit.accepting import Accepted
from pgqueue import (
    PgQueue,
    Task,
)


def declare_work(pgq: PgQueue) -> Task[[int], int]:
    @pgq.task
    async def work(number: int) -> int:
        return number

    task: Task[[int], int] = work
    return task


def with_port(dsn: str, port: int) -> str:
    parts = urlsplit(dsn)
    user = f"{parts.username or 'postgres'}{f':{parts.password}' if parts.password else ''}"
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}", query=""))


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Line:
    """The line between a client and the server: cut it, or let it go silent, before an answer comes back."""

    def __init__(
        self, connect: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
    ) -> None:
        self._connect = connect
        self.accepted = Accepted(self._serve)
        self.cut_at: bytes | None = None
        """Cut when the client's words contain this, once the server has answered them."""
        self.cut_after: bytes | None = None
        """... and only a connection over which the client has said this before; None: any."""
        self.is_silent = False
        self.opened = self._silent_before = 0
        """How many connections were opened over it."""
        self.is_down = False
        self.cuts = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_down:
            writer.close()
            return
        number, self.opened = self.opened, self.opened + 1
        try:
            server_reader, server_writer = await self._connect()
        except OSError:
            # The server is away: the client is told as a server that is away tells it.
            writer.close()
            return
        cutting = asyncio.Event()
        pumps = [
            asyncio.ensure_future(self._pump(reader, server_writer, cutting, number, from_client=True)),
            asyncio.ensure_future(self._pump(server_reader, writer, cutting, number, from_client=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            writer.close()
        finally:
            # First: what is awaited below may be cancelled.
            server_writer.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        cutting: asyncio.Event,
        number: int,
        *,
        from_client: bool,
    ) -> None:
        is_meant = False
        try:
            while words := await reader.read(65536):
                is_meant = is_meant or (self.cut_after is not None and self.cut_after in words)
                if (
                    from_client
                    and (is_meant or self.cut_after is None)
                    and self.cut_at is not None
                    and self.cut_at in words
                ):
                    self.cut_at = None
                    cutting.set()
                elif not from_client and cutting.is_set():
                    # The server has committed and said so; nobody will hear it.
                    self.cuts += 1
                    return
                if self.is_silent or number < self._silent_before:
                    continue
                writer.write(words)
                await writer.drain()
        except ConnectionError:
            return

    def forget_connections(self) -> None:
        """Have nothing arrive any more over the connections of now, as behind a firewall that forgot them."""
        self._silent_before = self.opened

    async def hang_up(self) -> None:
        """End all connections."""
        await self.accepted.cut()


@asynccontextmanager
async def line_to(dsn: str, *, listener: socket.socket | None = None) -> AsyncIterator[tuple[Line, str]]:
    """Run a line to the server of *dsn*; yield it, and the DSN of its near end, which *listener* may be."""
    probe = await asyncpg.connect(dsn)
    address = inside.address_of(probe)
    await probe.close()

    async def connect() -> Streams:
        if isinstance(address, str):
            return await asyncio.open_unix_connection(address)
        return await asyncio.open_connection(*address)

    line = Line(connect)
    listener = listener or socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(line.accepted.accept, sock=listener)
    try:
        yield line, with_port(dsn, server.sockets[0].getsockname()[1])
    finally:
        await line.accepted.close(server)
