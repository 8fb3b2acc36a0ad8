"""A primary and its standby, how a program reaches either, and what an operator does to them."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from kit.servers import PROGRAMS, Standby
from kit.waiting import eventually

from faults.servers import ROLE, LaboratoryServer, laboratory_server

REPLICATES = {"wal_level": "replica", "max_wal_senders": "5", "hot_standby": "on"}
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
"""Another version than the embedded server's."""
SESSIONS = f"""
    select count(*) from pg_stat_activity where usename = '{ROLE}' and application_name = 'pgqueue'
"""


class Cluster:
    """Two servers: one takes writes, and the other one follows it."""

    def __init__(self, primary: LaboratoryServer, standby: Standby) -> None:
        self.primary = primary
        self.standby = standby
        self.promoted = LaboratoryServer(standby.data, standby.dsn, standby.programs)
        """The standby, as what it becomes."""
        hosts = ",".join(quote(str(server.data)) for server in (primary, standby))
        self.dsn = f"postgresql://{ROLE}:{ROLE}@/{ROLE}?host={hosts}&port=5432,5432"
        """How programs reach whichever takes writes."""

    async def wait_for_standby(self) -> None:
        """Have commits wait for the standby from now on."""
        await self.primary.query("alter system set synchronous_standby_names = '*'")
        await self.primary.query("select pg_reload_conf()")

        async def is_synchronous() -> bool:
            rows = await self.primary.query("select from pg_stat_replication where sync_state = 'sync'")
            return len(rows) == 1

        await eventually(is_synchronous)

    async def take_back(self, *, anew: bool) -> None:
        """Have the old primary, which is stopped, follow the new one: as it is, or with data copied *anew*.

        As it is, it can if the standby had all of it when it was stopped.
        """
        old, new = self.primary, self.promoted
        if anew:
            # Its folder stays, and with that its owner.
            for each in old.data.iterdir():
                shutil.rmtree(each) if each.is_dir() else each.unlink()
            await old.run("pg_basebackup", "-X", "stream", "-c", "fast", "-D", str(old.data), "-d", new.dsn)
            (old.data / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        (old.data / "standby.signal").touch()
        info = f"host={new.data} user=postgres"
        old.configure({"primary_conninfo": info, "synchronous_standby_names": ""})
        await old.start()

        async def follows() -> bool:
            return bool(await new.query("select from pg_stat_replication"))

        await eventually(follows)

    async def until_left(self) -> float:
        """Wait until programs have no session on the old primary; return the seconds that it took."""
        began = time.monotonic()

        async def is_left() -> bool:
            return await self.sessions_on_old() == 0

        await eventually(is_left)
        return time.monotonic() - began

    async def sessions_on_old(self) -> int:
        """Return how many sessions programs have on the old primary."""
        [row] = await self.primary.query(SESSIONS)
        return int(row["count"])


async def under_load(server: LaboratoryServer, jobs: int = 50) -> None:
    """Wait until so many jobs have been enqueued: processes take a while to start."""

    async def are_there() -> bool:
        [row] = await server.query("select count(*) from pgqueue.job")
        return int(row["count"]) >= jobs

    await eventually(are_there)


@asynccontextmanager
async def cluster(*, is_synchronous: bool, programs: Path = PROGRAMS) -> AsyncIterator[Cluster]:
    """Run two servers, ready for the program."""
    async with laboratory_server(REPLICATES, programs=programs) as server, Standby.of(server) as standby:
        made = Cluster(server, standby)
        if is_synchronous:
            await made.wait_for_standby()
        else:
            await standby.catch_up()
        yield made
