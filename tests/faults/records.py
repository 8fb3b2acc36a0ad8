"""What processes note while they run: files to which each only appends, so that none can be lost or altered.

Times are CLOCK_MONOTONIC, which is one clock for all processes of a machine, whatever is done to the others.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Notebook:
    """The records of this process, and of those that it forks: each has a file of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, int] = {}

    def note(self, kind: str, **fields: object) -> None:
        """Append a record. It is with the kernel when this returns: SIGKILL does not undo it."""
        pid = os.getpid()
        record = {"kind": kind, "at": round(time.monotonic(), 4), "by": pid, **fields}
        file = self._files.get(pid)
        if file is None:
            path = self._folder / f"{pid}-{time.monotonic_ns()}.records"
            file = self._files[pid] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, f"{json.dumps(record)}\n".encode())


def read_records(folder: Path) -> list[Record]:
    """Return the records of all processes, in the order of their times."""
    return sorted(_lines_in(folder), key=lambda record: float(record["at"]))


def _lines_in(folder: Path) -> Iterator[Record]:
    for path in folder.glob("*.records"):
        for line in path.read_text().splitlines():
            yield json.loads(line)
