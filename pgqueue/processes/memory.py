"""How a process that pgqueue has to itself returns memory to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

LARGE: Final = 4 * 1024 * 1024
"""Bytes from which on a block is returned as soon as it is freed."""
_M_MMAP_THRESHOLD: Final = -3


def return_large_blocks() -> None:
    """Have large blocks returned to the system as soon as they are freed, where that can be had.

    Left to itself, glibc takes the largest block ever freed (up to 32 MiB) as the bound, and keeps some of
    the blocks below it for each thread.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
