"""Tests see what pgqueue keeps to itself through one module: a change of the inside changes that."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOOR = TESTS / "kit" / "inside.py"
FILES = sorted(set(TESTS.rglob("*.py")) - {DOOR})

NAMED_TUPLES = frozenset({"_replace", "_asdict", "_fields"})
"""Methods of named tuples: their underscore keeps them apart from the fields, and hides nothing."""


def is_private(name: str) -> bool:
    """Return whether *name* is private."""
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLES


def is_own(owner: ast.expr) -> bool:
    """Return whether *owner* is the object itself; `os._exit` and the like are documented as public."""
    return isinstance(owner, ast.Name) and owner.id in {"self", "cls", "os", "sys"}


def trespasses(source: str) -> list[str]:
    """Return which private attributes of others, and private names of pgqueue, *source* takes."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node.value):
            found.append((node.lineno, ast.unparse(node)))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "pgqueue":
            path = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found += [(node.lineno, name) for name in path if is_private(name)]
        elif isinstance(node, ast.Import):
            path = [part for alias in node.names for part in alias.name.split(".")]
            found += [(node.lineno, name) for name in path if is_private(name)]
    return [f"line {line}: {name}" for line, name in sorted(found)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_reaches_past_an_underscore(path: Path) -> None:
    assert trespasses(path.read_text(encoding="utf-8")) == []


def test_the_rule_sees_what_it_is_for() -> None:
    source = """
from pgqueue.retry import _delay, delay
pgq._store
pgq.inside._store.read
os._exit(1)
row._replace(id=1)
self._store
self.pgq._store
"""

    assert trespasses(source) == [
        "line 2: _delay",
        "line 3: pgq._store",
        "line 4: pgq.inside._store",
        "line 8: self.pgq._store",
    ]
