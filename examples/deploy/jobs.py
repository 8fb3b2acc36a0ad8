"""The application of the deployment files: one task. Put your own in its place.

Its database is that of PGQUEUE_DSN, as `PgQueue()` without a DSN takes it.
"""

from __future__ import annotations

from pgqueue import PgQueue

pgq = PgQueue()


@pgq.task
async def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}!"
