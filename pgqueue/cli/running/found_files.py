"""The files of a folder: what `pgqueue demo` reads."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pgqueue.cli.output import plain
from pgqueue.model.figures import count

LISTED: Final = 50
"""Failures and skipped files that are listed, at most."""
SAMPLES: Final = 200
"""Files that are made where a folder has none."""


@dataclass
class Found:
    """The content of a folder and its subfolders."""

    files: list[bytes] = field(default_factory=list)
    """Regular files and links to them: absolute paths as bytes, because a name need not be valid text."""
    skipped: list[str] = field(default_factory=list)
    """Everything else that is not a folder, with the reason."""


def find_files(folder: Path, *, without: Path | None = None) -> Found:
    """Find the regular files in *folder* and its subfolders, except those in *without*.

    Links to folders are not followed, because they may form a circle.
    """
    found = Found()

    def skip(path: bytes | str, why: str) -> None:
        found.skipped.append(f"{plain(os.fsdecode(path))}: {why}")

    def skip_unreadable(error: OSError) -> None:
        skip(error.filename, str(error.strerror))

    excluded = None if without is None else os.fsencode(without.resolve())
    for where, folders, names in os.walk(os.fsencode(folder.resolve()), onerror=skip_unreadable):
        for name in list(folders):
            path = os.path.join(where, name)  # noqa: PTH118  # bytes
            if os.path.islink(path):  # noqa: PTH114
                skip(path, "a link to a folder")
            elif path == excluded:
                folders.remove(name)
                skip(path, "the demo's own database")
        for name in names:
            path = os.path.join(where, name)  # noqa: PTH118
            try:
                mode = os.stat(path).st_mode  # noqa: PTH116
            except OSError as error:
                skip(path, str(error.strerror))
                continue
            if stat.S_ISREG(mode):
                found.files.append(path)
            else:
                skip(path, "not a regular file")
    return found


def listed(heading: str, entries: Sequence[str], total: int) -> list[str]:
    """Return lines: *heading* with *total*, and the first LISTED of *entries*."""
    if not total:
        return []
    lines = [f"{heading}: {count(total)}", *(f"  {each}" for each in entries[:LISTED])]
    return lines if total <= LISTED else [*lines, f"  ... and {count(total - LISTED)} more"]


@contextmanager
def sample_files() -> Iterator[Found]:
    """Make files to read, in a temporary folder, for the block."""
    with TemporaryDirectory(prefix="pgqueue-demo-") as folder:
        files = [Path(folder) / f"{number:03}.txt" for number in range(SAMPLES)]
        for number, path in enumerate(files):
            path.write_text(f"line {number} of a sample file\n" * (1 + number * 37 % 1000), encoding="utf-8")
        yield Found([os.fsencode(path) for path in files])
