"""The addresses of brokers and of result backends: pgqueue has one of its own, the DSN of a database.

No error and no warning shows an address, because a password may be part of it.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path
from typing import Final

from pgqueue import ConfigurationError

_POSTGRES: Final = re.compile(r"(?:sqla\+|db\+)?((?:postgres|postgresql)(?:\+\w+)?://.*)", re.DOTALL)
"""Celery puts `sqla+` and `db+` before the addresses of SQLAlchemy."""
_PAIRS: Final = re.compile(r"\s*\w+\s*=")
"""How libpq's own form begins: `host=... dbname=...`."""
_SCHEME: Final = re.compile(r"[A-Za-z][\w.+-]*")
_HERE: Final = str(Path(__file__).parent)


class ForeignAddressWarning(UserWarning):
    """An address that leads to no PostgreSQL was ignored, because PGQUEUE_DSN names the database."""


def read_address(what: str, address: object) -> str | None:
    """Return *address* if it is the DSN of a PostgreSQL; None: the database is that of PGQUEUE_DSN.

    The address of anything else is ignored with one warning, which names *what* has it. Raises
    ConfigurationError for one if PGQUEUE_DSN is not set either.
    """
    return read_addresses({what: address})


def read_addresses(given: dict[str, object]) -> str | None:
    """Return the one DSN among several addresses, each by what has it. None of them is `None`'s place.

    Raises ConfigurationError for two DSNs that differ, and for what `read_address` does.
    """
    dsns: dict[str, str] = {}
    foreign: list[str] = []
    for what, address in given.items():
        if address is None:
            continue
        dsn = _dsn_of(address)
        if dsn is None:
            foreign.append(f"{what} is {_kind_of(address)}")
        else:
            dsns[what] = dsn
    if len(set(dsns.values())) > 1:
        raise ConfigurationError(
            f"{' and '.join(dsns)} are the DSNs of different databases: jobs and results are in one; pass one"
        )
    if foreign:
        _pass_over(foreign, is_known=bool(dsns or os.environ.get("PGQUEUE_DSN")))
    return next(iter(dsns.values()), None)


def _pass_over(foreign: list[str], *, is_known: bool) -> None:
    listed = " and ".join(foreign)
    if not is_known:
        raise ConfigurationError(
            f"{listed}, and pgqueue needs PostgreSQL alone: pass postgresql://..., or set PGQUEUE_DSN, and "
            "the address is ignored"
        )
    if is_child():
        return
    warnings.warn(
        f"{listed}: ignored, jobs and results are in PostgreSQL", ForeignAddressWarning, _callers_level()
    )


def is_child() -> bool:
    """Whether this is a child process of a worker, which has warned already."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == "pgqueue.processes.child"


def _callers_level() -> int:
    """Return the `stacklevel` of the first frame outside of this package, for a warning of `_pass_over`."""
    frame, level = sys._getframe(1), 1  # noqa: SLF001  # as warnings itself
    while frame is not None and frame.f_code.co_filename.startswith(_HERE) and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    return level


def _dsn_of(address: object) -> str | None:
    if not isinstance(address, str):
        return None
    found = _POSTGRES.fullmatch(address.strip())
    if found is not None:
        return found[1]
    return address if "://" not in address and _PAIRS.match(address) else None


def _kind_of(address: object) -> str:
    """Return what kind of address it is: its scheme at most."""
    if not isinstance(address, str):
        return f"a {type(address).__name__}"
    scheme = _SCHEME.match(address)
    if scheme is not None and address.startswith(f"{scheme[0]}://"):
        return f"a {scheme[0]}:// address"
    return "no address of PostgreSQL"
