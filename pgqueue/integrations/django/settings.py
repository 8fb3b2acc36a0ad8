"""What a backend is told by `settings.TASKS`, and where `settings.DATABASES` says that the database is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from pgqueue.database.sql import check_schema_name
from pgqueue.errors import ConfigurationError

_OF_DRIVER: Final = frozenset(
    {
        "context", "cursor_factory", "prepare_threshold", "client_encoding", "row_factory", "autocommit",
        "isolation_level", "pool", "server_side_binding", "assume_role",
    }
)  # fmt: skip
"""What Django gives its driver, and is no part of a DSN."""


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """`OPTIONS` of one backend."""

    alias: str
    database: str = "default"
    """The alias in `DATABASES` whose connection enqueues and reads."""
    dsn: str | None = None
    """Where workers connect, if not to that database as Django does: past a pooler, say."""
    schema: str = "pgqueue"
    migrate: bool = True
    """Whether `manage.py migrate` brings the schema up to date."""
    dashboard: str | None = None
    """The address that the admin links to."""
    include: tuple[str, ...] = ()
    """Modules with tasks, besides the module `tasks` of each app."""
    rest: Mapping[str, Any] | None = None
    """Options of the PgQueue, and of all tasks."""

    def address(self) -> str:
        """Return the DSN for workers. Raises ImproperlyConfigured."""
        return self.dsn or dsn_of(self.database)


def read_settings(alias: str, options: Mapping[str, Any]) -> BackendSettings:
    """Read `OPTIONS`. Raises ImproperlyConfigured for what is no option, and for values of other types."""
    given = dict(options)
    kinds = {"database": str, "dsn": str, "schema": str, "migrate": bool, "dashboard": str}
    own = {name: given.pop(name) for name in kinds if name in given}
    for name, value in own.items():
        if not isinstance(value, kinds[name]):
            raise _invalid(alias, f"{name!r} must be a {kinds[name].__name__}, got {value!r}")
    include = given.pop("include", ())
    if isinstance(include, str) or not all(isinstance(each, str) for each in include):
        raise _invalid(alias, f"'include' must be a list of modules, got {include!r}")
    if "codec" in given:
        raise _invalid(alias, "'codec' cannot be used: Django's own connection writes the arguments, as JSON")
    try:
        check_schema_name(own.get("schema", "pgqueue"))
    except ConfigurationError as error:
        raise _invalid(alias, str(error)) from error
    return BackendSettings(alias=alias, include=tuple(include), rest=given, **own)


def dsn_of(database: str) -> str:
    """Return the DSN of a database of `settings.DATABASES`. Raises ImproperlyConfigured.

    It is read when it is needed: tests have databases of other names.
    """
    connection = checked_connection(database)
    parameters = connection.get_connection_params()
    pairs = {
        name: value
        for name, value in parameters.items()
        if name not in _OF_DRIVER and isinstance(value, str | int | float) and value != ""
    }
    return " ".join(f"{name}={_quoted(value)}" for name, value in pairs.items())


def checked_connection(database: str) -> Any:
    """Return Django's connection to a database. Raises ImproperlyConfigured unless it is PostgreSQL."""
    if database not in connections:
        raise ImproperlyConfigured(
            f"pgqueue: DATABASES has no {database!r}; name one of {', '.join(sorted(connections))} as the "
            "option 'database' in TASKS"
        )
    connection = connections[database]
    if connection.vendor != "postgresql":
        raise ImproperlyConfigured(
            f"pgqueue: database {database!r} must be PostgreSQL, got {connection.vendor}; name another one "
            "as the option 'database' in TASKS"
        )
    return connection


def _quoted(value: object) -> str:
    return "'" + str(value).replace("\\", r"\\").replace("'", r"\'") + "'"


def _invalid(alias: str, problem: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"TASKS[{alias!r}]['OPTIONS']: {problem}")
