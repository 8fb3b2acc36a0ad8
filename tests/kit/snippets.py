"""The code in documents."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md"), *ROOT.glob("*/README.md")],
)

SNIPPET = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(page: str, language: str) -> list[str]:
    """Return the snippets of *page*, a path below docs/, in *language*."""
    return snippets_in(DOCS / page, language)


def snippets_in(page: Path, language: str) -> list[str]:
    """Return the snippets of the document in *page* in *language*."""
    return [code for found, code in SNIPPET.findall(page.read_text(encoding="utf-8")) if found == language]


def commands(page: str) -> list[str]:
    """Return what *page* types at the prompt of a shell."""
    lines = "".join(snippets(page, "console")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


async def run(code: str, names: dict[str, Any]) -> None:
    """Run *code*, which may await, as the prompt of `python -m asyncio` does."""
    compiled = compile(code, "docs", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(compiled, names)
    if inspect.isawaitable(waiting):
        await waiting


def imported(code: str) -> set[str]:
    """Return the modules that *code* imports, or imports names from."""
    found: set[str] = set()
    for node in ast.walk(compile(code, "docs", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
    return found
