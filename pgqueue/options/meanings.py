"""What each option means, in the words that editors show: the docstrings in `options.declared`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from functools import cache

from pgqueue.options import declared


@cache
def meanings() -> Mapping[str, str]:
    """Return the sentences about each option, by its name. Empty where the source is not installed."""
    try:
        source = inspect.getsource(declared)
    except OSError:
        return {}
    found: dict[str, str] = {}
    for level in ast.parse(source).body:
        if isinstance(level, ast.ClassDef):
            found |= _of_fields(level)
    return found


def _of_fields(level: ast.ClassDef) -> dict[str, str]:
    found = {}
    for field, below in zip(level.body, level.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as words)):
                found[name] = " ".join(words.split())
            case _:
                pass
    return found
