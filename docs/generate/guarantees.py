"""Fills in reference/guarantees.md: which tests hold which promise, from their marks; and the last figures.

Ids and promises are written on the page itself. The figures are what
`python -m tests.faults --figures --json`
has printed, kept in tests/faults/figures.json.
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
    reports = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else []
    return f"{before}{BEGIN}\n\n{figures(reports)}\n{END}\n{after}"


def figures(reports: list[Mapping[str, Any]]) -> str:
    """Return the table of what the scenarios in *reports* measured beside their bars, as Markdown."""
    if not reports:
        return "No full run has been kept yet.\n"
    lines = ["| fault | figure | measured | bar |", "|---|---|---|---|"]
    for report in reports:
        for figure in report["figures"]:
            bar = figure["bar"]
            cells = (
                report["scenario"],
                figure["name"],
                "none" if figure["value"] is None else f"{_number(figure['value'])} {figure['unit']}".strip(),
                "" if bar is None else f"{'≥' if figure['is_least'] else '≤'} {_number(bar)}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    violations = sum(len(report["violations"]) for report in reports)
    minutes = sum(report["seconds"] for report in reports) / 60
    lines += ["", f"{len(reports)} scenarios in {minutes:.0f} minutes, with {violations} violations."]
    return "\n".join([*lines, ""])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.2f}"


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
