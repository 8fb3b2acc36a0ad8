"""What the benchmarks share: a server, the machine's name tag, and how figures are printed."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from pgqueue import PgQueue, PgQueueError
from pgqueue.embedded import embedded_server

Figures = dict[str, float]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--dsn", help="the server to use; an embedded one if not given")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--rounds", type=int, default=3, help="how often each figure is taken (%(default)s)")
    parser.add_argument(
        "--loop", choices=["uvloop", "asyncio"], default="uvloop", help="the event loop (%(default)s)"
    )
    return parser


@contextmanager
def server(dsn: str | None) -> Iterator[str]:
    """Yield the DSN of a server: the given one, or an embedded one with PostgreSQL's default settings."""
    if dsn is not None:
        yield dsn
        return
    with embedded_server() as embedded:
        yield embedded


@asynccontextmanager
async def database(server_dsn: str) -> AsyncIterator[str]:
    """Yield the DSN of a new database with pgqueue's schema, and drop it afterwards."""
    name = f"pgqueue_benchmark_{uuid4().hex[:8]}"
    dsn = urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
    admin = await asyncpg.connect(server_dsn)
    try:
        await admin.execute(f"create database {name}")
        await PgQueue(dsn).migrate()
        yield dsn
        await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()


async def describe(server_dsn: str, loop: str) -> dict[str, object]:
    """Return what was measured on: machine, versions, date, the settings that matter."""
    admin = await asyncpg.connect(server_dsn)
    try:
        settings = {
            row["name"]: row["setting"]
            for row in await admin.fetch(
                "select name, current_setting(name) as setting from pg_settings where name = any($1)",
                ["server_version", "fsync", "synchronous_commit", "shared_buffers", "max_wal_size"],
            )
        }
    finally:
        await admin.close()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "loop": loop,
        "postgresql": settings.pop("server_version"),
        **settings,
    }


def run(loop: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run *main* on the event loop asked for; a database that cannot be reached ends with exit code 1."""
    try:
        if loop == "uvloop":
            import uvloop

            uvloop.run(main())
        else:
            asyncio.run(main())
    except (OSError, asyncpg.PostgresError, PgQueueError) as error:
        sys.exit(f"benchmark: nothing measured: {type(error).__name__}: {error}")


def report(what: str, machine: dict[str, object], rounds: Sequence[Figures], *, as_json: bool) -> None:
    """Print the median and the spread of each figure over all rounds."""
    figures = {name: [each[name] for each in rounds] for name in rounds[0]}
    if as_json:
        medians = {name: statistics.median(values) for name, values in figures.items()}
        print(json.dumps({"benchmark": what, "machine": machine, "median": medians, "rounds": list(rounds)}))
        return
    print(what)
    print("  on " + ", ".join(f"{name} {value}" for name, value in machine.items()))
    for name, values in figures.items():
        spread = f"{min(values):,.2f} to {max(values):,.2f}, {len(values)} rounds"
        print(f"  {name:<34} {statistics.median(values):>12,.2f}   ({spread})")


def resident_mib() -> float:
    """Return this process's resident set in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which *share* (0 to 1) of *values* lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
