"""Django's connections to PostgreSQL: `django.db.connection`, and those of `connections`.

For what Django's Tasks framework has no name for: workflows, keys, limits. See `pgqueue.blocking`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import psycopg
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.connection import ConnectionProxy

from pgqueue.database.callers import Caller, Here, RunsHere
from pgqueue.errors import UnknownConnectionError
from pgqueue.integrations.psycopg import PsycopgHere


def take(what: str, given: object) -> Caller | None:  # noqa: ARG001  # its kind has it
    """Return None: Django's connections are synchronous, also where its views are not."""
    return None


def take_here(what: str, given: object) -> Here | None:
    """Return a connection of Django's as a Here; None: it is none. Raises UnknownConnectionError."""
    return DjangoHere(what, given) if isinstance(given, ConnectionProxy | BaseDatabaseWrapper) else None


class DjangoHere(Here):
    """A connection of Django's, which is made when it is used first."""

    def __init__(self, what: str, connection: Any) -> None:
        if connection.vendor != "postgresql":
            raise UnknownConnectionError(
                f"{what}: connection= takes Django's connection to PostgreSQL, and {connection.alias!r} "
                f"leads to {connection.vendor}; pass one of `django.db.connections`"
            )
        self._what = what
        self._connection = connection

    def is_in_transaction(self) -> bool:
        """Whether the caller is in `transaction.atomic()`."""
        in_atomic: bool = self._connection.in_atomic_block
        if in_atomic:
            # One that is to be rolled back takes no statements of Django's either.
            self._connection.validate_no_broken_transaction()
        return in_atomic

    def begins_itself(self) -> bool:
        """Whether autocommit is off, so that the first statement begins one."""
        return not self._connection.get_autocommit()

    def begin(self) -> AbstractContextManager[object]:
        """Begin a transaction."""
        begun: AbstractContextManager[object] = transaction.atomic(using=self._connection.alias)
        return begun

    def runner(self) -> tuple[RunsHere, object]:
        """Return what runs statements on the connection of Django's driver."""
        self._connection.validate_thread_sharing()
        self._connection.ensure_connection()
        driver = self._connection.connection
        if not isinstance(driver, psycopg.Connection):
            raise UnknownConnectionError(
                f"{self._what}: connection= takes Django's connection where its driver is psycopg 3, got "
                f"{type(driver).__module__}; install `psycopg[binary]`"
            )
        return PsycopgHere(self._what, driver).runner()
