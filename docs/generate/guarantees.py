"""Fills in reference/guarantees.md: which tests hold which promise, from their marks; and the last figures.

Ids and promises are written on the page itself. The figures are what
`python -m tests.faults --figures --record` has written to tests/faults/figures.json.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "guarantees.md"
FIGURES = ROOT / "tests" / "faults" / "figures.json"
BEGIN, END = "<!-- figures -->", "<!-- the end of the figures -->"
ROW = re.compile(r"^\| (\w+(?:\.\d+)?) \| (.*) \| (.*)\|$")


def page() -> str:
    """Return the page with the column of tests as the marks say, and with the figures."""
    found = marks()
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    filled = "".join(f"{_filled_in(line, found)}\n" for line in lines)
    before, _, rest = filled.partition(f"{BEGIN}\n")
    _, _, after = rest.partition(f"{END}\n")
    run = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else None
    return f"{before}{BEGIN}\n\n{figures(run)}\n{END}\n{after}"


def figures(run: Mapping[str, Any] | None) -> str:
    """Return the table of what *run* measured beside the bars, as Markdown; None: there was no run."""
    if run is None:
        return "No full run has been kept yet.\n"
    columns = ("fault", "measured", "bar", "of")
    lines = [
        f"Measured on {run['when']} ({run['machine']}), in {run['minutes']} minutes, from seed {run['seed']}."
    ]
    lines += ["", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(str(row.get(column, '')) for column in columns)} |" for row in run["rows"]]
    return "\n".join([*lines, ""])


def promised() -> set[str]:
    """Return the ids of the promises on the page. The heads of its tables are none."""
    rows = map(ROW.match, PAGE.read_text(encoding="utf-8").splitlines())
    return {row[1] for row in rows if row is not None and row[1] not in ("id", "fault")}


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
