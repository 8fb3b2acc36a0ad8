"""What a schema consists of, read from its migrations: what a restore may leave out, or a role may lack."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from pgqueue.database.script import statements_of
from pgqueue.database.sql import Migration

# What a statement inside a function makes is indented, and not meant.
_STATEMENT = re.compile(
    r"^(create|drop) (?:or replace )?(?:unique )?(type|sequence|table|index|view|function|trigger) "
    r"(?:if (?:not )?exists )?(?:\"?\w+\"?\.)?(\w+)(?:(?: [^;$]*?)?\bon (?:\"?\w+\"?\.)?(\w+))?",
    re.MULTILINE,
)

_FUNCTION = re.compile(r"create (?:or replace )?function ")
_NAME = re.compile(r"\b\w+\.(\w+)")


class SchemaObject(NamedTuple):
    """A table, a function, or another object of the schema. `table`: of a trigger or an index."""

    kind: str
    name: str
    table: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}{f' on {self.table}' if self.table else ''}"


def made_by(migrations: Iterable[Migration]) -> list[SchemaObject]:
    """Return what is there once *migrations* have been applied, in the order in which it was made."""
    made: dict[tuple[str, ...], SchemaObject] = {}
    for migration in migrations:
        for verb, kind, name, table in _STATEMENT.findall(migration.sql):
            # Triggers of two tables may have one name.
            key = (kind, name, table) if kind == "trigger" else (kind, name)
            if verb == "create":
                made[key] = SchemaObject(kind, name, table if kind in {"index", "trigger"} else "")
            else:
                made.pop(key, None)
    return list(made.values())


def locked_by(migrations: Iterable[Migration], there: Iterable[SchemaObject]) -> list[str]:
    """Return which of the tables and views that are *there* some statement of *migrations* may lock.

    Those that a function names it locks when it is called.
    """
    names = {
        name
        for migration in migrations
        for _, statement in statements_of(migration.sql)
        if not _FUNCTION.match(statement)
        for name in _NAME.findall(statement)
    }
    indexes = {each.name: each.table for each in there if each.kind == "index"}
    names |= {indexes[name] for name in names & indexes.keys()}
    return [each.name for each in there if each.kind in {"table", "view"} and each.name in names]
