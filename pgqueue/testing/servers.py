"""The server that tests use: an embedded one, one in a container, or one that is there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import asyncpg
from anyio.from_thread import start_blocking_portal

from pgqueue.embedded import embedded_server
from pgqueue.errors import ConfigurationError

SETTING: Final = "PGQUEUE_TEST_SERVER"
"""The environment variable that says which: `embedded`, `testcontainers`, or a DSN."""
IMAGE: Final = "PGQUEUE_TEST_IMAGE"
"""The environment variable that names the image of a container."""
DEFAULT_IMAGE: Final = "postgres:17"
MEMORY_FOR_DATA: Final = 8 * 2**30
"""Bytes that have to be free in memory for the data of a server to go there."""


@contextmanager
def running_server(which: str | None = None, image: str | None = None) -> Iterator[str]:
    """Run a server for tests inside the block; yield its DSN, of a role that may make databases.

    *which*: "embedded", "testcontainers", or a DSN of a server that runs already; if not given, the
    environment variable PGQUEUE_TEST_SERVER says it, and else it is embedded. *image*: of the container; if
    not given, PGQUEUE_TEST_IMAGE, and else postgres:17. What runs here for tests alone is set up to be fast,
    and not to survive a crash.

    Raises ConfigurationError, which says what to install or to set.
    """
    which = which or os.environ.get(SETTING) or "embedded"
    if which == "embedded":
        with tempfile.TemporaryDirectory(prefix="pgqueue-tests-", dir=_roomy_memory()) as folder:
            try:
                with embedded_server(Path(folder) / "data") as dsn:
                    _trust_the_machine(dsn)
                    yield dsn
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"{error}, or set {SETTING} to a DSN or to 'testcontainers'"
                ) from None
    elif which == "testcontainers":
        with _container(image or os.environ.get(IMAGE) or DEFAULT_IMAGE) as dsn:
            _trust_the_machine(dsn)
            yield dsn
    elif "=" in which or "://" in which:
        yield which
    else:
        raise ConfigurationError(
            f"{SETTING} must be 'embedded', 'testcontainers' or a DSN such as "
            f"'postgresql://postgres@localhost/postgres', got {which!r}"
        )


@contextmanager
def _container(image: str) -> Iterator[str]:
    try:
        from testcontainers.community.postgres import PostgresContainer
    except ImportError:
        try:
            # Where it was before version 4.13.
            from testcontainers.postgres import PostgresContainer
        except ImportError as error:
            raise ConfigurationError(
                f"{SETTING} is 'testcontainers', which is not installed; run `pip install testcontainers`"
            ) from error
    with PostgresContainer(image, driver=None) as container:
        yield container.get_connection_url()


def _roomy_memory() -> str | None:
    """Return a directory whose files are in memory, if the server's data have room there; None: on disk."""
    memory = Path("/dev/shm")  # noqa: S108  # what is made there is private
    has_room = memory.is_dir() and shutil.disk_usage(memory).free >= MEMORY_FOR_DATA
    return str(memory) if has_room else None


def _trust_the_machine(dsn: str) -> None:
    """Have the server write no more than it must: its data need not survive the machine."""
    # In a thread: this may be called where an event loop runs.
    with start_blocking_portal() as portal:
        portal.call(_set_unsafe, dsn)


async def _set_unsafe(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("alter system set fsync = off")
        await connection.execute("alter system set full_page_writes = off")
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()
