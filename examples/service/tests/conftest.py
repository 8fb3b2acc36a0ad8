"""What the tests of the shop share: its own PgQueue and app, on a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from shop import Base, app, open_sessions, pgq
from sqlalchemy.ext.asyncio import create_async_engine

from pgqueue import PgQueue
from pgqueue.testing import using


@pytest.fixture(scope="session")
def pgqueue_prepare() -> Callable[[str], Awaitable[None]]:
    """Make the shop's tables in the database that those of the tests are copies of."""

    async def make_tables(dsn: str) -> None:
        engine = create_async_engine(dsn.replace("postgresql://", "postgresql+asyncpg://", 1))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await engine.dispose()

    return make_tables


@pytest.fixture
def queue(pgqueue_dsn: str) -> Iterator[PgQueue]:
    """The shop's PgQueue."""
    with using(pgq, pgqueue_dsn):
        yield pgq


@pytest.fixture
async def client(queue: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    """The shop, while it runs."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            yield client


@pytest.fixture
async def sessions(queue: PgQueue) -> AsyncIterator[Any]:
    """Sessions of SQLAlchemy on the test's database."""
    async with open_sessions() as sessions:
        yield sessions


class Kept(Transport):
    """Keeps what would be sent to Sentry."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        """Keep an event."""
        if (event := envelope.get_event()) is not None:
            self.events.append(event)


@pytest.fixture
def reported() -> Iterator[list[Any]]:
    """What was sent to Sentry."""
    transport = Kept()
    sentry_sdk.init("https://key@sentry.invalid/1", transport=transport)
    yield transport.events
    sentry_sdk.init()
