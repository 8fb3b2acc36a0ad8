"""Servers of the laboratory: each has data, settings and a socket of its own, and a database for the program.

Their data are in memory where that has room, and the server flushes them as on a disk.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from kit.servers import PROGRAMS, CrashableServer, crashable_server

from pgqueue import PgQueue

ROLE = "lab"
"""The role of workers and enqueuers, its password, and the database that it owns."""

SETTINGS = {
    "log_min_messages": "warning",
    "max_connections": "200",
    "max_wal_size": "512MB",
    "shared_buffers": "64MB",
}

TABLES = """
    create table public.ledger (job_id uuid not null, n bigint not null);
    create table public.orders (n bigint not null);
    create table public.transitions (
        id bigint generated always as identity,
        job_id uuid not null,
        status text not null,
        at timestamptz not null default clock_timestamp()
    );
    create function public.note_transition() returns trigger language plpgsql set search_path to public as $$
    begin
        insert into public.transitions (job_id, status) values (new.id, new.status);
        return null;
    end $$;
    create trigger note_transition after update on pgqueue.job for each row
        when (new.status is not null and new.status is distinct from old.status)
        execute function public.note_transition();
"""
"""What jobs write to, and every end of a job that the database has seen."""


class LaboratoryServer(CrashableServer):
    """A server that can be stopped and started in every way, and be asked as a superuser."""

    @property
    def program_dsn(self) -> str:
        """How workers and enqueuers reach their database."""
        return urlsplit(self.dsn)._replace(netloc=f"{ROLE}:{ROLE}@", path=f"/{ROLE}").geturl()

    @property
    def database_dsn(self) -> str:
        """How a superuser reaches the same database."""
        return urlsplit(self.dsn)._replace(path=f"/{ROLE}").geturl()

    def configure(self, settings: Mapping[str, str]) -> None:
        """Set what holds from the next start on."""
        with (self.data / "postgresql.auto.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    async def restart(self) -> None:
        """Restart the server as an operator does: all connections end, and are told why."""
        await self.stop()
        await self.start()

    async def query(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Ask the server, in the program's database, on a connection of its own."""
        connection = await asyncpg.connect(self.database_dsn, timeout=10)
        try:
            return await connection.fetch(statement, *values, timeout=60)
        finally:
            await connection.close()

    async def admit(self, method: str) -> None:
        """Have the program's role log in by this method of pg_hba.conf: scram-sha-256, or reject."""
        rules = self.data / "pg_hba.conf"
        others = [line for line in rules.read_text().splitlines() if f" {ROLE} " not in line]
        rules.write_text("\n".join([f"local all {ROLE} {method}", *others, ""]))
        await self.query("select pg_reload_conf()")

    async def prepare(self) -> None:
        """Make the role, its database with pgqueue's schema, and the tables of the laboratory."""
        admin = await asyncpg.connect(self.dsn)
        try:
            await admin.execute(f"create role {ROLE} login password '{ROLE}'")
            await admin.execute(f"create database {ROLE} owner {ROLE}")
            await admin.execute(f"grant set on parameter pgqueue.writer to {ROLE}")
        finally:
            await admin.close()
        rules = self.data / "pg_hba.conf"
        rules.write_text(f"local all {ROLE} scram-sha-256\n{rules.read_text()}")
        await self.query("select pg_reload_conf()")
        await PgQueue(self.program_dsn).migrate()
        owner = await asyncpg.connect(self.program_dsn)
        try:
            await owner.execute(TABLES)
        finally:
            await owner.close()


@asynccontextmanager
async def laboratory_server(
    settings: Mapping[str, str] | None = None, *, parent: Path | None = None, programs: Path = PROGRAMS
) -> AsyncIterator[LaboratoryServer]:
    """Run a new server with these settings, ready for the program; its data, in *parent*, go in the end."""
    async with AsyncExitStack() as stack:
        # It makes the data with programs that it waits for.
        made = await asyncio.to_thread(stack.enter_context, crashable_server(parent, programs))
        server = LaboratoryServer(made.data, made.dsn, programs)
        server.configure({**SETTINGS, **(settings or {})})
        await server.start()
        try:
            await server.prepare()
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():
                server.thaw()
                await server.crash()


def keep_log(server: LaboratoryServer, folder: Path) -> None:
    """Copy the server's log beside the records: its data go, and with them what it said."""
    if (server.data / "log").exists():
        shutil.copy(server.data / "log", folder / "server.log")
