"""What a schema consists of, read from its migrations: what a restore may leave out, or a role may lack."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from pgqueue.database.sql import Migration

# What a statement inside a function makes is indented, and not meant.
_STATEMENT = re.compile(
    r"^(create|drop) (?:or replace )?(?:unique )?(type|sequence|table|index|view|function|trigger) "
    r"(?:if (?:not )?exists )?(?:\"?\w+\"?\.)?(\w+)(?:(?: [^;$]*?)?\bon (?:\"?\w+\"?\.)?(\w+))?",
    re.MULTILINE,
)


class SchemaObject(NamedTuple):
    """A table, a function, or another object of the schema. `table` is a trigger's, and otherwise empty."""

    kind: str
    name: str
    table: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}{f' on {self.table}' if self.table else ''}"


def made_by(migrations: Iterable[Migration]) -> list[SchemaObject]:
    """Return what is there once *migrations* have been applied, in the order in which it was made."""
    made: dict[SchemaObject, None] = {}
    for migration in migrations:
        for verb, kind, name, table in _STATEMENT.findall(migration.sql):
            each = SchemaObject(kind, name, table if kind == "trigger" else "")
            if verb == "create":
                made[each] = None
            else:
                made.pop(each, None)
    return list(made)
