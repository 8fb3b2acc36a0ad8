"""Fills in which tests hold which promise: the last column of reference/guarantees.md, from the tests' marks.

Ids and promises are written on the page itself.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "guarantees.md"
ROW = re.compile(r"^\| (\w+(?:\.\d+)?) \| (.*) \| (.*)\|$")


def page() -> str:
    """Return the page with the column of tests as the marks say."""
    found = marks()
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return "".join(f"{_filled_in(line, found)}\n" for line in lines)


def promised() -> set[str]:
    """Return the ids of the promises on the page."""
    rows = map(ROW.match, PAGE.read_text(encoding="utf-8").splitlines())
    return {row[1] for row in rows if row is not None and row[1] != "id"}


def marks() -> dict[str, list[str]]:
    """Return the files of tests that name each promise, by its id."""
    found: dict[str, list[str]] = {}
    tests = ROOT / "tests"
    for path in sorted(tests.rglob("test_*.py")):
        for promise in sorted(set(_named_in(path))):
            found.setdefault(promise, []).append(path.relative_to(tests).as_posix())
    return found


def _named_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(attr="contract"), args=args):
                for arg in args:
                    yield ast.literal_eval(arg)


def _filled_in(line: str, found: dict[str, list[str]]) -> str:
    row = ROW.match(line)
    if row is None or row[1] == "id":
        return line
    tests = ", ".join(f"`{file}`" for file in found.get(row[1], ()))
    return f"| {row[1]} | {row[2]} | {tests} |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
