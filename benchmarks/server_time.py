"""The processor time of a server on this machine, read from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def find_postmaster(backend: int, database: str) -> int | None:
    """Return the id of the server's first process; None: it is not a process that can be read here."""
    try:
        title = Path(f"/proc/{backend}/cmdline").read_text(encoding="utf-8", errors="replace")
        # Elsewhere the number may be anybody's; the database's name is like no other.
        return _stat(backend).parent if database in title else None
    except OSError:
        return None


def processor_seconds(postmaster: int) -> float:
    """Return the processor time of all processes of a server, those that have ended among them."""
    ticks = _stat(postmaster).ticks + _stat(postmaster).ended_ticks
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = _stat(int(entry.name))
            except OSError:
                continue
            if stat.parent == postmaster:
                ticks += stat.ticks
    return ticks / TICKS


@dataclass(frozen=True, slots=True)
class _Stat:
    parent: int
    ticks: int
    ended_ticks: int
    """Those of children that have ended."""


def _stat(pid: int) -> _Stat:
    # The name, in brackets, may contain anything.
    fields = (
        Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    )
    user, system, ended_user, ended_system = map(int, fields[11:15])
    return _Stat(int(fields[1]), user + system, ended_user + ended_system)
