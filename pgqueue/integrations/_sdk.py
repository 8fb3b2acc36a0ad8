"""How integrations call the SDKs of others, in workers and in their child processes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("pgqueue.integrations")


@contextmanager
def shielded(doing: str) -> Iterator[None]:
    """Log what the application's SDK raises, and go on: a job is worth more than its trace."""
    try:
        yield
    except Exception:
        logger.warning("%s failed; going on without", doing, exc_info=True)


def is_child_process() -> bool:
    """Whether this process runs the jobs of a worker one by one, and may be killed after each of them."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "pgqueue.processes.child"
