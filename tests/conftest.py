"""A real server, and a database of its own for every test, cloned from a migrated template.

Which server is one setting, PGQUEUE_TEST_SERVER: `embedded` (the default), `testcontainers` (the image is
PGQUEUE_TEST_IMAGE), or the DSN of a superuser of a server.

Each database belongs to a plain role, as on a managed server, and the DSN that tests get is that role's. What
needs more asks for `superuser_dsn`.

Which event loop is another, PGQUEUE_TEST_LOOP: `asyncio` or `uvloop`, for tests and for the workers that they
start. Without it, tests run on asyncio's loop, and workers on uvloop's, as they do for users.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import settings

from pgqueue import PgQueue
from pgqueue.embedded import embedded_server

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]

MEMORY_FOR_DATA = 8 * 2**30
"""Bytes that have to be free in memory for the data of a server to go there."""

OWNER = "pgqueue_tests"
"""The role that owns the databases of tests, and its password; it may do no more than any role may."""

FIRST_WITH_STRATEGIES = 150000
"""The first version whose `create database` has strategies."""

# A shell that starts the tests in the background has them ignore SIGINT, and all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's business, and never a reason to fail.
settings.register_profile("pgqueue", deadline=None)
settings.load_profile("pgqueue")


if os.environ.get("PGQUEUE_TEST_LOOP") == "uvloop":
    # Where the hook is defined, it names the loop in the name of every test.
    def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        """Have tests run on uvloop's event loop."""
        from uvloop import new_event_loop

        return {"uvloop": new_event_loop}


LONG_FILES = frozenset(
    f"test_{name}.py"
    for name in (
        "api_as_described", "blocked_loop", "browser", "cli", "crowded", "dead_connections", "demo",
        "examples", "gates", "hosts", "kill", "leases", "limits_lost_workers", "lists", "lost_sessions",
        "mass_redrive", "metrics_processes", "metrics_prometheus", "migrations", "order_model", "packaging",
        "plans", "pooler", "processes", "refused_logins", "restart", "standby", "streams", "stress",
        "supervisor", "synchronous_standby", "tutorial", "waited_out", "worker",
    )
)  # fmt: skip
"""Files whose few tests take long: they start processes and servers, or fill large tables."""


CORE_FILES = frozenset(
    f"test_{name}.py"
    for name in (
        "backpressure", "cancel", "chores", "dead_letters", "enqueue", "expiry", "job_transactions",
        "keys", "lists", "migrations", "pause", "rescue",
        "retries", "signals", "smoke", "steps", "transactions", "unknown_tasks", "worker",
    )
)  # fmt: skip
"""Files of the core: what has to hold on every version, in every encoding and under every setting."""


BEYOND_CORE = frozenset(
    f"test_{name}"
    for name in (
        "a_database_that_falls_silent_is_a_typed_error_in_bounded_time",
        "a_page_reads_a_bounded_part_of_a_large_table",
        "a_page_that_finds_little_is_short_and_says_where_to_go_on",
        "a_page_that_was_cut_short_says_so_by_every_door",
        "a_worker_that_comes_and_goes_under_load_leaves_nothing_behind",
        "losses_are_bounded_by_a_counter_of_their_own",
        "nothing_starts_before_a_worker_has_read_what_is_paused",
        "of_ten_processes_that_migrate_at_once_one_does_it",
        "the_order_of_keys_and_spaces_make_no_other_call",
        "what_ended_long_ago_is_on_the_first_page",
        "without_a_limit_a_job_is_retried_until_it_succeeds",
    )
)
"""The longest tests in these files: load, large tables and time, whatever the server."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file without tests of the core, or about handlers, where these are asked for.

    To import all the others takes longer than many of the tests.
    """
    mark = config.option.markexpr
    if collection_path.suffix != ".py" or mark not in {"core", "handlers"}:
        return None
    is_core = mark == "core" and collection_path.name in CORE_FILES
    return True if not is_core and f"mark.{mark}" not in collection_path.read_text(encoding="utf-8") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the core, and what is the same on any server. Have long files run first, then those of many."""
    for item in items:
        if item.path.name in CORE_FILES and item.name.partition("[")[0] not in BEYOND_CORE:
            item.add_marker(pytest.mark.core)
        if item.path.name in LONG_FILES and "databases" not in getattr(item, "fixturenames", ()):
            # It has servers of its own, which are embedded ones always, or none.
            item.add_marker(pytest.mark.any_server)
    tests = Counter(item.path.name for item in items)
    items.sort(key=lambda item: (item.path.name not in LONG_FILES, -tests[item.path.name]))


def with_database(dsn: str, database: str) -> str:
    """Return *dsn* for another database of the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def with_role(dsn: str, role: str) -> str:
    """Return *dsn* for another role of the same server, whose password is its name."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{role}:{role}@{parts.netloc.rpartition('@')[2]}"))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The DSN of the server's maintenance database, as a superuser."""
    with running_server() as dsn:
        yield dsn


@contextmanager
def running_server() -> Iterator[str]:
    """Run the server that PGQUEUE_TEST_SERVER says; yield the DSN of its maintenance database."""
    setting = os.environ.get("PGQUEUE_TEST_SERVER", "embedded")
    with ExitStack() as stack:
        if setting == "embedded":
            directory = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="pgqueue-tests-", dir=roomy_memory())
            )
            dsn = stack.enter_context(embedded_server(Path(directory) / "data"))
            asyncio.run(_trust_the_machine(dsn))
            yield dsn
        elif setting == "testcontainers":
            from testcontainers.community.postgres import PostgresContainer

            image = os.environ.get("PGQUEUE_TEST_IMAGE", "postgres:17")
            container = stack.enter_context(PostgresContainer(image, driver=None))
            dsn = container.get_connection_url()
            asyncio.run(_trust_the_machine(dsn))
            yield dsn
        else:
            yield setting


def roomy_memory() -> str | None:
    """Return a directory whose files are in memory, if the server's data have room there; None: on disk."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free >= MEMORY_FOR_DATA
    return str(memory) if has_room else None


async def _trust_the_machine(dsn: str) -> None:
    """Have the server write no more than it must: its data need not survive the machine."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("alter system set fsync = off")
        await connection.execute("alter system set full_page_writes = off")
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()


@asynccontextmanager
async def _connections(server: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(server, min_size=1, max_size=2) as pool:
        yield pool


_MAKE_OWNER = f"""
do $$ begin
    create role {OWNER} login password '{OWNER}';
exception
    -- Tests that run beside these on the same server have made it.
    when duplicate_object or unique_violation then null;
end $$
"""


class Databases:
    """Makes databases for tests, and drops them, all in a thread of its own.

    The next clone of the migrated template is made while a test has the one before, and nobody waits for a
    database to go.
    """

    def __init__(self, server: str, portal: BlockingPortal, pool: Pool, template: str) -> None:
        self._server = server
        self._portal = portal
        self._pool = pool
        self._from_template = f"template {template}"
        if portal.call(self._server_version) >= FIRST_WITH_STRATEGIES:
            # The other strategy writes each page of the template to the log.
            self._from_template += " strategy file_copy"
        self._next_clone = portal.start_task_soon(self._make, self._from_template)
        self._drops: list[Future[None]] = []

    @classmethod
    @contextmanager
    def of(cls, server: str) -> Iterator[Databases]:
        """Make databases on *server* while the context lasts; raises what went wrong in the end."""
        template = f"pgqueue_template_{uuid4().hex[:12]}"
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(_connections(server)) as pool,
        ):
            portal.call(pool.execute, _MAKE_OWNER)
            portal.call(pool.execute, f"create database {template} owner {OWNER}")
            portal.call(PgQueue(with_role(with_database(server, template), OWNER)).migrate)
            databases = cls(server, portal, pool, template)
            try:
                yield databases
            finally:
                databases.drop_all()
                portal.call(pool.execute, f"drop database {template} with (force)")

    def clone(self) -> str:
        """Return the DSN of a migrated database."""
        dsn = self._next_clone.result()
        self._next_clone = self._portal.start_task_soon(self._make, self._from_template)
        return dsn

    def make_empty(self, options: str = "") -> str:
        """Return the DSN of a database without pgqueue's schema."""
        return self._portal.call(self._make, options)

    def drop(self, dsn: str) -> None:
        """Have a database dropped, whoever is connected; does not wait for it."""
        self._drops.append(self._portal.start_task_soon(self._drop, urlsplit(dsn).path[1:]))

    def drop_all(self) -> None:
        """Drop what is left, and wait for all that was dropped; raises what went wrong."""
        self.drop(self._next_clone.result())
        for drop in self._drops:
            drop.result()

    async def _make(self, options: str) -> str:
        name = f"pgqueue_test_{uuid4().hex[:12]}"
        await self._pool.execute(f"create database {name} owner {OWNER} {options}")
        return with_role(with_database(self._server, name), OWNER)

    async def _drop(self, name: str) -> None:
        await self._pool.execute(f"drop database {name} with (force)")

    async def _server_version(self) -> int:
        return int(await self._pool.fetchval("show server_version_num"))


@pytest.fixture(scope="session")
def databases(server: str) -> Iterator[Databases]:
    """Where databases come from."""
    with Databases.of(server) as databases:
        yield databases


@pytest.fixture
def empty_dsn(databases: Databases) -> Iterator[str]:
    """A database without pgqueue's schema."""
    dsn = databases.make_empty()
    yield dsn
    databases.drop(dsn)


@pytest.fixture
def dsn(databases: Databases) -> Iterator[str]:
    """A migrated database of the test's own."""
    dsn = databases.clone()
    yield dsn
    databases.drop(dsn)


@pytest.fixture
def superuser_dsn(server: str, dsn: str) -> str:
    """The same database for a superuser, to do what its owner may not."""
    return with_database(server, urlsplit(dsn).path[1:])


@pytest.fixture
async def pgq(dsn: str) -> AsyncIterator[PgQueue]:
    """An open PgQueue; declare tasks on it."""
    async with PgQueue(dsn) as queue:
        yield queue


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Connection]:
    """A plain connection to the test's database: what somebody with psql has."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()
