"""Fixtures for tests of programs that use pgqueue: a plugin of pytest.

It is a module of its own, beside the package, and imports pgqueue where a fixture is used: pytest imports the
plugins of all distributions that are installed, also for tests that have nothing to do with them.

All fixtures are plain ones, so they work with pytest-asyncio, with anyio's plugin, and without either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pgqueue.testing import Databases


@pytest.fixture(scope="session")
def pgqueue_server() -> Iterator[str]:
    """The DSN of a PostgreSQL server for tests: PGQUEUE_TEST_SERVER says which.

    `embedded` (the default), `testcontainers` (the image is PGQUEUE_TEST_IMAGE), or a DSN. Each process of
    pytest-xdist has a server of its own, unless it is a DSN.
    """
    from pgqueue.testing import running_server

    with running_server() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def pgqueue_schema() -> str:
    """The schema of your PgQueue. Override it if that is not `pgqueue`."""
    return "pgqueue"


@pytest.fixture(scope="session")
def pgqueue_prepare() -> Callable[[str], Any] | None:
    """Makes the tables of your application, once: a function or coroutine function of a DSN. Override it."""
    return None


@pytest.fixture(scope="session")
def pgqueue_databases(
    pgqueue_server: str, pgqueue_schema: str, pgqueue_prepare: Callable[[str], Any] | None
) -> Iterator[Databases]:
    """Where the databases of tests come from: see `pgqueue.testing.Databases`."""
    from pgqueue.testing import Databases

    with Databases.on(pgqueue_server, schema=pgqueue_schema, prepare=pgqueue_prepare) as databases:
        yield databases


@pytest.fixture
def pgqueue_dsn(pgqueue_databases: Databases) -> Iterator[str]:
    """A migrated database of the test's own, in milliseconds; dropped behind it."""
    dsn = pgqueue_databases.clone()
    yield dsn
    pgqueue_databases.drop(dsn)
