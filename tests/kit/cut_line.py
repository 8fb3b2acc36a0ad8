"""A line to the server that is cut at a message: before the server has it, or before its answer is back."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from kit.accepting import Accepted

CHUNK = 65_536
PREPARED = re.compile(rb"(__asyncpg_stmt_\w+__)\0-- (\w+):")
NAMED = re.compile(rb"-- (\w+):")
READY = b"Z\x00\x00\x00\x05"
"""With what the server says that it waits for the next message."""


class CutLine:
    """Counts the messages that have the server carry something out, and cuts the connection at one."""

    def __init__(self, upstream: str) -> None:
        self.seen: set[str] = set()
        """The statements of `sql/` that came by."""
        self.count = 0
        self.cut_at: int | None = None
        self.is_carried_out = False
        self._upstream = urlsplit(upstream)
        self._names: dict[bytes, str] = {}

    def arm(self, at: int | None, *, is_carried_out: bool) -> None:
        """Count from 0, and cut at message *at*: once the server has carried it out, or before it has it."""
        self.count, self.cut_at, self.is_carried_out = 0, at, is_carried_out

    def look(self, data: bytes) -> bool:
        """Count a message of a client; return whether it is to be cut."""
        names = dict(PREPARED.findall(data))
        self._names |= {prepared: name.decode() for prepared, name in names.items()}
        if data[:1] not in (b"B", b"Q"):
            return False
        found = NAMED.search(data)
        self.seen.update([found[1].decode()] if found else [])
        self.seen.update(name for prepared, name in self._names.items() if prepared + b"\0" in data)
        number, self.count = self.count, self.count + 1
        return number == self.cut_at

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, until either side or a cut ends it."""
        directory = dict(parse_qsl(self._upstream.query)).get("host")
        port = self._upstream.port or 5432
        if directory is not None:
            server, to_server = await asyncio.open_unix_connection(f"{directory}/.s.PGSQL.{port}")
        else:
            server, to_server = await asyncio.open_connection(self._upstream.hostname, port)
        cut = asyncio.Event()
        directions = [
            asyncio.ensure_future(self._forth(reader, to_server, cut)),
            asyncio.ensure_future(self._back(server, writer, cut)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First: what is awaited below may be cancelled.
            to_server.transport.abort()
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    async def _forth(
        self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        while data := await reader.read(CHUNK):
            if self.look(data):
                if not self.is_carried_out:
                    return
                cut.set()
            to_server.write(data)

    async def _back(
        self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        while data := await server.read(CHUNK):
            if cut.is_set():
                while data and data[-6:-1] != READY:
                    data = await server.read(CHUNK)
                return
            writer.write(data)


@asynccontextmanager
async def cut_line(upstream: str) -> AsyncIterator[tuple[CutLine, str]]:
    """Put a line before the server of the DSN *upstream*; yield it, and the DSN that leads through it."""
    parts = urlsplit(upstream)
    with tempfile.TemporaryDirectory(prefix="pgqueue-cut-") as directory:
        credentials = parts.netloc.rpartition("@")[0]
        dsn = urlunsplit(
            parts._replace(netloc=f"{credentials}@" if credentials else "", query=f"host={quote(directory)}")
        )
        line = CutLine(upstream)
        accepted = Accepted(line.serve)
        server = await asyncio.start_unix_server(accepted.accept, Path(directory) / ".s.PGSQL.5432")
        try:
            yield line, dsn
        finally:
            await accepted.close(server)
