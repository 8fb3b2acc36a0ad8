"""Pauses Python's garbage collector while code makes many objects and no cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

FEW: Final = 100
"""Fewer objects than this do not trigger the collector."""


@contextmanager
def collector_paused(objects: int) -> Iterator[None]:
    """Collect no garbage inside, if *objects*, the number that are made there, is large.

    Await nothing inside. The number of new objects triggers the collector: in a bulk call of 10,000 jobs it
    looked through all of them again and again, for half of the call's time (10.3 microseconds per job against
    5.7, measured).
    """
    if objects < FEW or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
