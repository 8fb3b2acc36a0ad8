"""`Redis(...)` where RQ wants a connection: it says which PostgreSQL database is meant."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from pgqueue import PgQueue
from pgqueue.blocking import BlockingPgQueue
from pgqueue.compat import connected, not_there, read_address

DEFAULT_TIMEOUT: Final = 180
"""Seconds that a job may run if neither its call nor its queue says otherwise, as in RQ."""
KILL_AFTER: Final = 60
"""Seconds between JobTimeoutException in a job and the end of its attempt, as in RQ."""
INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
"""Folders of packages: Debian has one that Python's own configuration does not name."""

OPTIONS: Final[Mapping[str, Any]] = {
    "max_retries": 0,
    "soft_timeout": DEFAULT_TIMEOUT,
    "timeout": DEFAULT_TIMEOUT + KILL_AFTER,
}
OF_ENVIRONMENT: Final = "PGQUEUE_DSN"
"""The host of a connection to the database that PGQUEUE_DSN names, where no address is passed over."""

_queues: Final[dict[str | None, PgQueue]] = {}


class Redis:
    """Takes what redis.Redis takes, and connects to no Redis.

    `Redis.from_url("postgresql://...")` names a database. Any other address, be it none, is passed over, and
    the environment's PGQUEUE_DSN names the database. Raises ConfigurationError if that is not set.
    """

    def __init__(
        self, host: str = "localhost", port: int = 6379, db: int = 0, password: str | None = None, **_: Any
    ) -> None:
        del password
        address = host if "://" in host else f"redis://{host}:{port}/{db}"
        self._dsn = None if host == OF_ENVIRONMENT else read_address("Redis", address)

    @classmethod
    def from_url(cls, url: str, **_: Any) -> Self:
        """Return the connection to the database that *url* names. Raises ConfigurationError."""
        return cls(url)

    @property
    def pgqueue(self) -> PgQueue:
        """The PgQueue that everything here stands before: for what RQ has no word for, and for new tasks.

        All connections of a process to one database share it.
        """
        pgq = _queues.get(self._dsn)
        if pgq is None:
            pgq = _queues[self._dsn] = PgQueue(self._dsn, **OPTIONS)
        return pgq

    @property
    def blocking(self) -> BlockingPgQueue:
        """The same to call without `await`, opened."""
        return connected(self.pgqueue, OPTIONS)

    def __pgqueue__(self) -> PgQueue:
        """Return what `pgqueue worker` runs: it may import the functions of your own modules."""
        pgq = self.pgqueue
        pgq.allow_importing(*sorted(own_modules()))
        return pgq

    def ping(self) -> bool:
        """Whether the database answers. Raises DatabaseUnavailableError if it does not."""
        self.blocking.check()
        return True

    def close(self) -> None:
        """Do nothing: the connections belong to the process, and are closed at its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise not_there(f"Redis.{name}", "there is no Redis here: keep such data in your own tables")


StrictRedis = Redis


def connection_of(given: object, what: str) -> Redis:
    """Return *given*, which must be a Redis of this module. Raises TypeError."""
    if not isinstance(given, Redis):
        raise TypeError(
            f"{what}: the connection must be a Redis of pgqueue.compat.rq, got {type(given).__name__}: "
            "change the import of redis, too"
        )
    return given


def own_modules() -> set[str]:
    """Return the top-level modules and packages that are the user's: imported here, or beside the program.

    A worker of RQ runs any function that a job names. This one runs those of the user's own code, and none of
    the standard library or of installed packages.
    """
    return {*_imported(), *_beside()} - _foreign()


def _foreign() -> set[str]:
    return {*sys.stdlib_module_names, "pgqueue", "__main__"}


def _imported() -> Iterator[str]:
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None)
        if file and "." not in name and name.isidentifier() and not _is_installed(file):
            yield name


def _is_installed(file: str) -> bool:
    if not INSTALLED.isdisjoint(Path(file).parts):
        return True
    return file.startswith(tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}))


def _beside() -> Iterator[str]:
    for each in Path.cwd().iterdir():
        is_package = each.is_dir() and any(each.glob("*.py"))
        if (is_package or each.suffix == ".py") and each.stem.isidentifier():
            yield each.stem
