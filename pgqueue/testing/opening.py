"""A PgQueue on the database of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from pgqueue.app import PgQueue


@contextmanager
def using(pgq: PgQueue, dsn: str) -> Iterator[PgQueue]:
    """Have *pgq* connect to *dsn* inside the block: the application's own PgQueue, on a test's database.

        @pytest.fixture
        async def queue(pgqueue_dsn: str) -> AsyncIterator[PgQueue]:
            with using(pgq, pgqueue_dsn):
                async with pgq:
                    yield pgq

    Open it inside the block, or let the application do that. Raises ConfigurationError for a DSN that cannot
    be read, and if *pgq* is open when the block begins or ends.
    """
    before, pgq.dsn = pgq.dsn, dsn
    try:
        yield pgq
    finally:
        pgq.dsn = before


@asynccontextmanager
async def opened(pgq: PgQueue) -> AsyncIterator[PgQueue]:
    """Open *pgq* for the block, unless it is open already."""
    if pgq.is_open:
        yield pgq
    else:
        async with pgq:
            yield pgq
