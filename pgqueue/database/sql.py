"""Loads the SQL in `sql/` for the schema in use.

The files name the schema `pgqueue`, so that you can paste them into psql. When they are loaded for another
schema, its name replaces that prefix. Types after `::` are named in full when a statement is loaded: a
caller's temporary table named json is a type of that name, too, and found first. Nothing else is ever
inserted into the text.
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
_TYPE = re.compile(r"::(?=(?:bool|bytea|float8|int[248]|jsonb?|name|oid|regclass|text|timestamptz|uuid)\b)")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_ROLE = re.compile(r"\bpgqueue(_enqueue|_receive|_worker|_read)?\b")
_WORDS = """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean
    both case cast char character check coalesce collate collation column concurrently constraint create
    cross current_catalog current_date current_role current_schema current_time current_timestamp
    current_user dec decimal default deferrable desc distinct do else end except exists extract false
    fetch float for foreign freeze from full grant greatest group grouping having ilike in initially
    inner inout int integer intersect interval into is isnull join json json_array json_arrayagg
    json_exists json_object json_objectagg json_query json_scalar json_serialize json_table json_value
    lateral leading least left like limit localtime localtimestamp merge_action national natural nchar
    none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay
    placing position precision primary real references returning right row select session_user setof
    similar smallint some substring symmetric system_user table tablesample then time timestamp to
    trailing treat trim true union unique user using values varchar variadic verbose when where window
    with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot
    xmlserialize xmltable information_schema plpgsql
"""
_RESERVED = frozenset(_WORDS.split())
"""Words of SQL that name no schema without quotes, in any version, and schemas of the server's own."""
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
    if schema in _RESERVED or schema.startswith("pg_"):
        raise ConfigurationError(f"schema must not be a word that SQL or PostgreSQL reserves, got {schema!r}")
    return schema


@cache
def load_statements(schema: str) -> dict[str, str]:
    """Return the statements for *schema*, by the names of their files without the folder."""
    return {
        file.name.removesuffix(".sql"): _TYPE.sub(
            "::pg_catalog.", _for_schema(file.read_text(encoding="utf-8"), schema)
        )
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
