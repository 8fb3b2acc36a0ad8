"""What the benchmarks share: a server, the machine's name tag, and how figures are printed."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from pgqueue import PgQueue, PgQueueError
from pgqueue.embedded import embedded_server

LONGEST_LINE = 2**27
"""Bytes that a part may say in one answer."""

Figures = dict[str, float]
Cell = tuple[tuple[str, object], ...]
"""What one cell of a matrix was measured with: names and values."""


def arguments(description: str | None, *, rounds: int | None = 3) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has.

    *rounds*: how many if nobody says; None: it has no rounds.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--dsn", help="the server to use; an embedded one if not given")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    if rounds is not None:
        parser.add_argument(
            "--rounds", type=int, default=rounds, help="how often each figure is taken (%(default)s)"
        )
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
    async with empty_database(server_dsn) as dsn:
        await PgQueue(dsn).migrate()
        yield dsn


@asynccontextmanager
async def empty_database(server_dsn: str) -> AsyncIterator[str]:
    """Yield the DSN of a new database, and drop it afterwards."""
    name = f"pgqueue_benchmark_{uuid4().hex[:8]}"
    admin = await asyncpg.connect(server_dsn)
    try:
        await admin.execute(f"create database {name}")
        yield urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
    finally:
        await admin.execute(f"drop database if exists {name} with (force)")
        await admin.close()


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Yield a connection, and close it afterwards."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


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
        print(
            json.dumps(
                {"benchmark": what, "machine": machine, "median": medians(rounds), "rounds": list(rounds)}
            )
        )
        return
    print(what)
    print("  on " + ", ".join(f"{name} {value}" for name, value in machine.items()))
    for name, values in figures.items():
        spread = f"{min(values):,.2f} to {max(values):,.2f}, {len(values)} rounds"
        print(f"  {name:<34} {statistics.median(values):>12,.2f}   ({spread})")


def report_cells(
    what: str, machine: dict[str, object], rounds: Sequence[Mapping[Cell, Figures]], *, as_json: bool
) -> None:
    """Print the median and the spread of each figure of each cell over all rounds."""
    cells = {cell: medians([each[cell] for each in rounds]) for cell in rounds[0]}
    if as_json:
        flat = [
            {_name(cell, name): value for cell, figures in each.items() for name, value in figures.items()}
            for each in rounds
        ]
        listed = [{**dict(cell), **figures} for cell, figures in cells.items()]
        print(
            json.dumps(
                {
                    "benchmark": what,
                    "machine": machine,
                    "median": medians(flat),
                    "rounds": flat,
                    "cells": listed,
                }
            )
        )
        return
    print(what)
    print("  on " + ", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"  medians of {len(rounds)} rounds, and in brackets the spread of the first figure")
    first = list(next(iter(cells.values())))
    heads = [*(name for name, _ in next(iter(cells))), *first]
    print("  " + "  ".join(f"{head:>10}" for head in heads))
    for cell, figures in cells.items():
        texts = [*(str(value) for _, value in cell), *(f"{value:,.2f}" for value in figures.values())]
        row = "  ".join(f"{text:>{max(len(head), 10)}}" for head, text in zip(heads, texts, strict=True))
        values = [each[cell][first[0]] for each in rounds]
        print(f"  {row}   ({min(values):,.2f} to {max(values):,.2f})")


def medians(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _name(cell: Cell, figure: str) -> str:
    return " ".join([*(f"{name}={value}" for name, value in cell), figure])


@asynccontextmanager
async def part(program: str, *arguments: str) -> AsyncIterator[Process]:
    """Run another part of a benchmark as a process of its own, and end it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, program, *arguments, stdin=PIPE, stdout=PIPE, limit=LONGEST_LINE
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def line_of(process: Process) -> str:
    """Return the next line that *process* prints."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise SystemExit("benchmark: a process has ended early: nothing measured")
    return line.decode()


async def ask(process: Process, line: str = "") -> Any:
    """Return what *process* answers to *line*, which was JSON."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    return json.loads(await line_of(process))


@asynccontextmanager
async def meanwhile(work: Callable[[], Coroutine[Any, Any, None]] | None) -> AsyncIterator[None]:
    """Run *work*, if there is any, until the context ends; what it raised is raised then."""
    if work is None:
        yield
        return
    running = asyncio.create_task(work())
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def numbers(text: str) -> list[int]:
    """Return the numbers of a text like `1,2,4`: the type of an option."""
    return [int(number) for number in text.split(",")]


def resident_mib() -> float:
    """Return this process's resident set in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which *share* (0 to 1) of *values* lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
