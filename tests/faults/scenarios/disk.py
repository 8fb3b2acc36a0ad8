"""The server's disk is full: it refuses what it cannot write, or falls over, until somebody makes room."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.scenarios.common import exits, lost, report
from faults.servers import LaboratoryServer, laboratory_server

DISK_MIB = 160
FULL = {"max_wal_size": "32MB", "min_wal_size": "32MB", "wal_recycle": "off"}


async def run(size: Size) -> Report:
    """Fill the disk under load, and make room a while later; start the server again if it has given up."""
    seconds, rounds = {"short": (4.0, 1), "full": (10.0, 3)}[size]
    async with _small_disk() as disk:
        if disk is None:
            return Report("disk", impossible="a file system of its own cannot be mounted (root may)")
        async with laboratory_server(FULL, parent=disk) as server, laboratory(server=server) as lab:
            await lab.crew(2, "--concurrency", "10")
            await lab.enqueuer(80, 4 + rounds * (seconds + 4))
            for _ in range(rounds):
                await asyncio.sleep(3)
                async with lab.disturbed("disk"):
                    filler = disk / "filler"
                    await asyncio.to_thread(_fill, filler)
                    # The log of the server's writes needs another file now.
                    with suppress(OSError, asyncpg.PostgresError, TimeoutError):
                        await server.query("select pg_switch_wal()")
                    await asyncio.sleep(seconds)
                    filler.unlink()
                    await _revive(server)
            evidence = await lab.finish()
            refusals = (server.data / "log").read_text().count("No space left on device")
            return report(
                "disk",
                lab,
                evidence,
                Figure("refused for want of space", refusals, bar=1, is_least=True),
                lost(evidence),
                exits(lab),
            )


@asynccontextmanager
async def _small_disk() -> AsyncIterator[Path | None]:
    with tempfile.TemporaryDirectory(prefix="pgqueue-disk-") as folder:
        options = f"size={DISK_MIB}m,mode=755"
        mounted = await asyncio.create_subprocess_exec(
            "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder, stderr=subprocess.DEVNULL
        )
        if await mounted.wait():
            yield None
            return
        try:
            yield Path(folder)
        finally:
            unmounted = await asyncio.create_subprocess_exec("umount", folder)
            await unmounted.wait()


def _fill(filler: Path) -> None:
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        # Down to the last page: a large write that does not fit fails as a whole.
        for step in (2**20, 2**12):
            with suppress(OSError):
                while True:
                    file.write(bytes(step))


async def _revive(server: LaboratoryServer) -> None:
    """Start the server if it has given up; it may be about to give up, or be starting by itself."""
    for _ in range(60):
        with suppress(OSError, asyncpg.PostgresError, TimeoutError):
            await server.query("select 1")
            return
        with suppress(subprocess.CalledProcessError):
            await server.ensure_started()
        await asyncio.sleep(0.5)
    raise RuntimeError(f"the server does not come up: {(server.data / 'log').read_text()[-1000:]}")
