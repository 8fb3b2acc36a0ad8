"""How much memory this process holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_STATM: Final = Path("/proc/self/statm")


def memory_of_process() -> int | None:
    """Return the bytes of memory that this process holds; None: this system does not say it cheaply.

    Threads are in it. Child processes are not.
    """
    try:
        _, pages, *_ = _STATM.read_text().split()
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
