"""Ways in which things go wrong: a worker that is never heard of again, an answer that is lost."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg

from kit import inside
from kit.accepting import Accepted
from kit.waiting import eventually
from pgqueue import PgQueue
from pgqueue.store import Claimed, Store

CHUNK = 65_536
STATEMENT_NAME = rb"(__asyncpg_stmt_\w+__)\0"

FORGET_CLAIMS = """
set pgqueue.writer to 'on';
with forgotten as (
    delete from pgqueue.running returning job_id, ready_at, position, lane, attempt, losses
)
insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
select job_id, ready_at, position, lane, attempt - 1, losses from forgotten;
"""
"""A crash of the server that claims had not waited for."""


class Ghost:
    """A worker that takes a lease and jobs by the real statements, and does nothing else."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], name: str) -> None:
        self.connection = connection
        self.store = Store("pgqueue")
        self.lease_id = uuid4()
        self.name = name

    async def claim(self, limit: int = 100) -> list[Claimed]:
        """Claim jobs, which are running from then on."""
        return await self.store.claim(self.connection, self.lease_id, limit, await self._walk())

    async def prefetch(self, limit: int = 100) -> list[UUID]:
        """Claim jobs without starting them."""
        jobs = await self.store.prefetch(self.connection, self.lease_id, limit, await self._walk())
        return [job_id for job_id, *_ in jobs]

    async def die(self) -> None:
        """Have the lease run out now."""
        await expire_lease(self.connection, self.lease_id)

    async def _walk(self) -> list[tuple[int, int]]:
        lanes = await self.connection.fetch("select id from pgqueue.lane order by priority desc, id")
        return [(lane["id"], 0) for lane in lanes]


@asynccontextmanager
async def ghost(pgq: PgQueue, *, max_losses: dict[str, int] | None = None) -> AsyncIterator[Ghost]:
    """Take a lease of an hour as a worker that will be a ghost."""
    connection = await inside.database(pgq).connect(durable=True)
    try:
        holder = Ghost(connection, "ghost")
        await holder.store.register_lease(
            connection,
            holder.lease_id,
            holder.name,
            ["default"],
            3600,
            prefetch=0,
            lock_key=None,
            max_losses=max_losses or {},
        )
        yield holder
    finally:
        await connection.close()


async def expire_lease(connection: asyncpg.Connection[asyncpg.Record], lease_id: UUID | None = None) -> None:
    """Move a lease, or all of them, past its time; a rescuer has watched it for long enough."""
    await connection.execute(
        "update pgqueue.lease set expires_at = now() - interval '1 second', beside = ("
        "  select greatest(count(*) - 1, 0) from pgqueue.running "
        "  where lease_id = lease.id and started_at is not null"
        ") where $1::uuid is null or id = $1",
        lease_id,
    )


@dataclass
class Loss:
    """What a proxy is to lose next."""

    text: bytes
    is_statement: bool
    """The text is a statement's, which is prepared under a name: what is meant is its execution."""
    after: bytes
    """Only on a connection that this has come by before."""
    is_carried_out: bool
    is_held: bool
    skip: int = 0
    """So many executions of the statement come by before."""


class LossyProxy:
    """Stands between a client and the server, and loses the answer that it is told to lose."""

    def __init__(self, dsn: str, upstream: str) -> None:
        self.dsn = dsn
        self.lost = asyncio.Event()
        """An answer was lost, with the connection that it was for."""
        self.loss: Loss | None = None
        self._upstream = urlsplit(upstream)
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        """Serve no new connection until `let_go`: they wait."""
        self._open.clear()

    def let_go(self) -> None:
        """Serve those that wait, and all others."""
        self._open.set()

    def lose_answer_to(self, statement: str, *, is_held: bool = False) -> None:
        """Lose the answer to the next first execution, by a connection, of a statement of `sql/`.

        The server has carried it out by then. The connection is cut; where it *is_held*, it stays, and is
        silent.
        """
        self.lose_statement(statement, is_carried_out=True, is_held=is_held)

    def lose_statement(
        self, statement: str, *, is_carried_out: bool, is_held: bool = False, skip: int = 0
    ) -> None:
        """Lose an execution of a statement of `sql/`, behind *skip* others of it on the same connection.

        Or the answer to it, where it *is_carried_out*.
        """
        self.lost.clear()
        text = f"-- {statement}:".encode()
        self.loss = Loss(
            text, is_statement=True, after=b"", is_carried_out=is_carried_out, is_held=is_held, skip=skip
        )

    def lose_text(self, text: str, *, is_carried_out: bool, after: str = "", is_held: bool = False) -> None:
        """Lose the next message with *text* in it; or the answer to it, where it *is_carried_out*.

        On a connection that the text *after* has come by.
        """
        self.lost.clear()
        self.loss = Loss(
            text.encode(),
            is_statement=False,
            after=after.encode(),
            is_carried_out=is_carried_out,
            is_held=is_held,
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        await self._open.wait()
        server_reader, server_writer = await self._connect()
        wire = Wire(self)
        directions = [
            asyncio.ensure_future(wire.forth(reader, server_writer)),
            asyncio.ensure_future(wire.back(server_reader, writer)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First: what is awaited below may be cancelled.
            server_writer.transport.abort()
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        directory = dict(parse_qsl(self._upstream.query)).get("host")
        port = self._upstream.port or 5432
        if directory is not None:
            return await asyncio.open_unix_connection(f"{directory}/.s.PGSQL.{port}")
        return await asyncio.open_connection(self._upstream.hostname, port)


class Wire:
    """One connection through a proxy."""

    def __init__(self, proxy: LossyProxy) -> None:
        self._proxy = proxy
        self._loss: Loss | None = None
        """What is being lost here."""
        self._prepared = b""
        self._has_come = False

    async def forth(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        """Hand on what the client says."""
        while data := await client.read(CHUNK):
            self._look(data)
            if self._loss is not None and not self._loss.is_carried_out:
                self._proxy.lost.set()
                while self._loss.is_held and await client.read(CHUNK):
                    pass
                return
            server.write(data)

    async def back(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Hand on what the server answers."""
        while data := await server.read(CHUNK):
            if self._loss is not None:
                self._proxy.lost.set()
                if self._loss.is_held:
                    # Until the client is gone.
                    await asyncio.Event().wait()
                return
            client.write(data)

    def _look(self, data: bytes) -> None:
        loss = self._proxy.loss
        if loss is None or self._loss is not None:
            return
        if loss.is_statement:
            # The text of a statement comes when it is prepared, under a name that its execution refers to;
            # what comes in between asks for types.
            if named := re.search(STATEMENT_NAME + loss.text, data):
                self._prepared = named[1]
            elif self._prepared and data.startswith(b"B") and self._prepared in data:
                if loss.skip:
                    loss.skip -= 1
                else:
                    self._loss, self._proxy.loss = loss, None
        elif loss.text in data and (self._has_come or not loss.after):
            self._loss, self._proxy.loss = loss, None
        elif loss.after and loss.after in data:
            self._has_come = True


@asynccontextmanager
async def lossy_proxy(upstream: str) -> AsyncIterator[LossyProxy]:
    """Put a proxy before the server of the DSN *upstream*; its own DSN leads through it."""
    parts = urlsplit(upstream)
    with tempfile.TemporaryDirectory(prefix="pgqueue-proxy-") as directory:
        credentials = parts.netloc.rpartition("@")[0]
        dsn = urlunsplit(
            parts._replace(netloc=f"{credentials}@" if credentials else "", query=f"host={quote(directory)}")
        )
        proxy = LossyProxy(dsn, upstream)
        accepted = Accepted(proxy.serve)
        server = await asyncio.start_unix_server(accepted.accept, Path(directory) / ".s.PGSQL.5432")
        try:
            yield proxy
        finally:
            await accepted.close(server)


async def attempt_reasons(pgq: PgQueue, job_id: UUID) -> Sequence[str]:
    """Return why each recorded attempt of a job ended."""
    return [attempt.reason for attempt in await pgq.attempts(job_id)]


async def blocked_session(connection: asyncpg.Connection[asyncpg.Record], statement: str) -> int | None:
    """Return a session that waits for a lock in this statement of `sql/`."""
    # In a transaction, the first look would be the only one.
    await connection.execute("select pg_stat_clear_snapshot()")
    pid: int | None = await connection.fetchval(
        "select pid from pg_stat_activity where wait_event_type = 'Lock' "
        "and datname = current_database() and query like $1",
        f"-- {statement}:%",
    )
    return pid


async def is_blocked(connection: asyncpg.Connection[asyncpg.Record], statement: str) -> bool:
    """Whether a session waits for a lock in this statement of `sql/`."""
    return await blocked_session(connection, statement) is not None


async def until_blocked(pgq: PgQueue, statement: str = "take_keys") -> None:
    """Wait until a session waits for a lock in *statement*."""
    connection = await inside.database(pgq).connect(durable=True)
    try:
        await eventually(lambda: is_blocked(connection, statement))
    finally:
        await connection.close()


async def renewed(pgq: PgQueue, lease_id: object) -> None:
    """Wait for the next renewal of a lease."""
    async with inside.database(pgq).acquire() as connection:
        query = "select renewed_at from pgqueue.lease where id = $1"
        before = await connection.fetchval(query, lease_id)

        async def is_later() -> bool:
            now = await connection.fetchval(query, lease_id)
            assert now is not None
            return bool(now > before)

        await eventually(is_later)
