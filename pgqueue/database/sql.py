"""The SQL of `sql/`, for the schema in use.

The files name the schema `pgqueue`, so that they paste into psql; another schema's name replaces
that prefix when they are loaded. Nothing else is ever put into the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pgqueue.errors import ConfigurationError

_packaged = files("pgqueue") / "sql"
ROOT: Traversable = _packaged if _packaged.is_dir() else Path(__file__).parents[2] / "sql"
"""In a wheel the package carries the SQL; in a checkout it lies beside the package."""

# The prefix of a name, the name alone as a literal (the notification channel), or at a statement's end.
_SCHEMA = re.compile(r"\bpgqueue(?=[.';])")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_WORKS_WITH = re.compile(r"^-- works with: (\d+)$", re.MULTILINE)
_NUMBERED = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of the schema."""

    version: int
    name: str
    sql: str = field(repr=False)
    works_with: int
    """The oldest schema version whose code works with the schema as this step leaves it."""


def check_schema_name(schema: str) -> str:
    """Return *schema* if it can be the name of pgqueue's schema. Raises ConfigurationError."""
    if not _PLAIN_NAME.fullmatch(schema):
        raise ConfigurationError(
            f"schema {schema!r}: use at most 40 lower-case letters, digits and underscores, no digit first"
        )
    return schema


@cache
def load_statements(schema: str) -> dict[str, str]:
    """Return every statement by its name, for *schema*. A folder's name is not part of it."""
    return {
        file.name.removesuffix(".sql"): _for_schema(file.read_text(encoding="utf-8"), schema)
        for folder in ROOT.iterdir()
        if folder.is_dir() and folder.name != "migrations"
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    }


@cache
def load_migrations(schema: str) -> tuple[Migration, ...]:
    """Return all migrations in their order, for *schema*."""
    found = []
    for file in (ROOT / "migrations").iterdir():
        if numbered := _NUMBERED.fullmatch(file.name):
            sql = file.read_text(encoding="utf-8")
            works_with = _WORKS_WITH.search(sql)
            if works_with is None:
                raise ConfigurationError(f"migration {file.name} has no header `-- works with: N`")
            found.append(
                Migration(int(numbered[1]), numbered[2], _for_schema(sql, schema), int(works_with[1]))
            )
    return tuple(sorted(found, key=lambda migration: migration.version))


def _for_schema(sql: str, schema: str) -> str:
    return sql if schema == "pgqueue" else _SCHEMA.sub(schema, sql)
