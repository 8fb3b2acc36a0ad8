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
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from hypothesis import settings
from kit.faults import Ghost, ghost

from pgqueue import PgQueue
from pgqueue.testing import Databases, running_server
from pgqueue.testing.databases import with_database

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

OWNER = "pgqueue_tests"
"""The role that owns the databases of tests, and its password; it may do no more than any role may."""

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
        "api_as_described", "asgi", "blocked_loop", "browser", "celery_examples", "celery_founding", "cli",
        "crowded", "dead_connections",
        "demo", "django", "examples", "gates", "hosts", "kill", "leases", "limits_lost_workers", "lists",
        "lost_sessions", "mass_redrive", "metrics_processes", "metrics_prometheus", "migrations",
        "order_model", "packaging", "pattern_eight", "plans", "pooler", "processes", "pydantic_ai",
        "refused_logins",
        "restart", "standby", "streams", "stress", "supervisor", "synchronous_standby", "tutorial",
        "waited_out", "worker",
    )
)  # fmt: skip
"""Files whose few tests take long: they start processes and servers, or fill large tables."""


CORE_FILES = frozenset(
    f"test_{name}.py"
    for name in (
        "backpressure", "cancel", "chores", "coalescing", "dead_letters", "enqueue", "expiry",
        "job_transactions", "key_conflicts", "key_spans", "keys", "lists", "lost_calls", "migrations",
        "pause", "rescue", "retries", "signals", "smoke", "steps", "transactions", "unknown_tasks", "worker",
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


SAME_ON_ANY_SERVER = frozenset(
    f"tests/{room}/{'*' if name == '*' else f'test_{name}.py'}"
    for room, names in {
        "background": ("dead_connections",),
        "cli": (
            "cli", "cli_dead", "cli_documents", "cli_limits", "cli_outages", "cli_reference", "cli_schedules",
            "cli_settings", "cli_terminal", "cli_workflow", "http_server", "tables", "top", "worker_program",
        ),
        "client": ("string_ids",),
        "compat": ("*",),
        "delivery": ("*",),
        "integrations": ("sentry",),
        "metrics": ("metrics_alerts", "metrics_reference", "metrics_worker"),
        "options": ("bounds",),
        "store": ("addresses", "crash_matrix", "lost_sessions", "resolving"),
        "tasks": ("typing",),
        "testing": ("kit",),
        "web": (
            "charts", "closed", "graph", "job_forms", "openapi", "owners", "page_frame", "retry_after",
            "schedule_pages", "statuses", "streams", "ticks", "web_access", "web_bodies", "web_bounds",
            "web_guard", "web_hostile", "web_login", "web_outages", "web_poll", "workflow_pages",
        ),
        "whole": (
            "docs", "examples", "generated", "guarantees", "layers", "privacy", "same_figures", "tutorial",
        ),
        "worker": ("cut_anywhere",),
    }.items()
    for name in names
)  # fmt: skip
"""Files whose tests ask how commands, pages, documents, other libraries and cut lines behave, on any server.

That each statement can be prepared on each version is one of the core's tests.
"""


FAULTS_WITHIN = 3600.0
"""Seconds that a test may take in which real processes and servers are disturbed, for minutes."""

RINGS_AGAIN = 60.0
"""Seconds between the alarms of a test that takes too long."""

SETTINGS = pytest.StashKey[Any]()


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, object, object]:
    """Let the alarm of a test that takes too long ring again: another task may have caught it."""
    item.stash[SETTINGS] = settings
    is_set = yield
    if settings.method == "signal":
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, RINGS_AGAIN)
    return is_set


@pytest.hookimpl(wrapper=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> Generator[None, object, object]:
    """Have an alarm for what ends a test that failed: pytest-timeout takes its own back when it does."""
    result = yield
    if isinstance(node, pytest.Item) and SETTINGS in node.stash:
        node.ihook.pytest_timeout_set_timer(item=node, settings=node.stash[SETTINGS])
    return result


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
        room = item.path.parent.relative_to(Path(__file__).parent.parent).as_posix()
        if not SAME_ON_ANY_SERVER.isdisjoint({f"{room}/{item.path.name}", f"{room}/*"}):
            item.add_marker(pytest.mark.any_server)
        if item.get_closest_marker("faults") is not None:
            item.add_marker(pytest.mark.timeout(FAULTS_WITHIN))
        elif os.environ.get("PGQUEUE_TEST_LOOP") == "uvloop":
            # That loop hears of no alarm. A thread ends the process, and another one goes on.
            item.add_marker(pytest.mark.timeout(method="thread"))
    tests = Counter(item.path.name for item in items)
    items.sort(key=lambda item: (item.path.name not in LONG_FILES, -tests[item.path.name]))


def with_role(dsn: str, role: str) -> str:
    """Return *dsn* for another role of the same server, whose password is its name."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{role}:{role}@{parts.netloc.rpartition('@')[2]}"))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The DSN of the server's maintenance database, as a superuser."""
    with running_server() as dsn:
        yield dsn


_MAKE_OWNER = f"""
do $$ begin
    create role {OWNER} login password '{OWNER}';
exception
    -- Tests that run beside these on the same server have made it.
    when duplicate_object or unique_violation then null;
end $$
"""


async def _make_owner(server: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(_MAKE_OWNER)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def databases(server: str) -> Iterator[Databases]:
    """Where databases come from."""
    asyncio.run(_make_owner(server))
    with Databases.on(server, owner=with_role(server, OWNER)) as databases:
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
def leases_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers that end wait until their leases are removed.

    On a busy machine it may take longer than they wait for, and a lease then runs out by itself.
    """
    for name in ("DROP_WITHIN", "STOP_WITHIN"):
        monkeypatch.setattr(f"pgqueue.worker.lease.keeper.{name}", 60.0)


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Connection]:
    """A plain connection to the test's database: what somebody with psql has."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def holder(pgq: PgQueue) -> AsyncIterator[Ghost]:
    """A worker that claims, and whose outcomes are the test's to write."""
    async with ghost(pgq) as taker:
        yield taker
