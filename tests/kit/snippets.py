"""The code in documents."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


SNIPPET = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(page: str, language: str) -> list[str]:
    """Return the snippets of *page* in *language*."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [code for found, code in SNIPPET.findall(text) if found == language]


async def run(code: str, names: dict[str, Any]) -> None:
    """Run *code*, which may await, as the prompt of `python -m asyncio` does."""
    compiled = compile(code, "docs", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(compiled, names)
    if inspect.isawaitable(waiting):
        await waiting
