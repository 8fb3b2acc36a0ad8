"""Loads the SQL in `sql/` for the schema in use.

The files name the schema `pgqueue`, so that you can paste them into psql. When they are loaded for another
schema, its name replaces that prefix. Nothing else is ever inserted into the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pgqueue.errors import ConfigurationError
from pgqueue.model.checks import shown

_packaged = files("pgqueue") / "sql"
ROOT: Traversable = _packaged if _packaged.is_dir() else Path(__file__).parents[2] / "sql"
"""A wheel carries the SQL inside the package; in a checkout it is beside the package."""

# As the prefix of a name, alone as a literal (the notification channel), or at the end of a statement.
_SCHEMA = re.compile(r"\bpgqueue(?=[.';])")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_ROLE = re.compile(r"\bpgqueue(_enqueue|_worker|_read)?\b")
_WORKS_WITH = re.compile(r"^-- works with: (\d+)$", re.MULTILINE)
_NUMBERED = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of the schema."""

    version: int
    name: str
    sql: str = field(repr=False)
    works_with: int
    """The oldest version whose code works with the schema after this step."""


def check_schema_name(schema: str) -> str:
    """Return *schema* if it is a valid name for pgqueue's schema. Raises ConfigurationError."""
    if not isinstance(schema, str) or not _PLAIN_NAME.fullmatch(schema):
        raise ConfigurationError(
            "schema must be at most 40 lower-case letters, digits and underscores, without a leading digit, "
            f"got {shown(schema)}"
        )
    return schema


@cache
def load_statements(schema: str) -> dict[str, str]:
    """Return the statements for *schema*, by the names of their files without the folder."""
    return {
        file.name.removesuffix(".sql"): _for_schema(file.read_text(encoding="utf-8"), schema)
        for folder in ROOT.iterdir()
        if folder.is_dir() and folder.name != "migrations"
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    }


@cache
def load_migrations(schema: str) -> tuple[Migration, ...]:
    """Return the migrations for *schema* in order."""
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


def load_roles(schema: str, prefix: str) -> str:
    """Return the SQL that makes roles for *schema*, whose names begin with *prefix*.

    Raises ConfigurationError.
    """
    check_schema_name(schema)
    if not _PLAIN_NAME.fullmatch(prefix):
        raise ConfigurationError(
            "prefix must be at most 40 lower-case letters, digits and underscores, without a leading digit, "
            f"got {prefix!r}"
        )
    sql = (ROOT / "roles.sql").read_text(encoding="utf-8")
    return _ROLE.sub(lambda found: f"{prefix}{found[1]}" if found[1] else schema, sql)
