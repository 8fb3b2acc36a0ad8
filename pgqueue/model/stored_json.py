"""Decodes stored JSON. PostgreSQL accepts documents that Python, or a reader of its JSON, does not."""

from __future__ import annotations

import json
import math
from typing import Any, Final

MAX_DEPTH: Final = 300
"""Maximum nesting of arrays and objects. pgqueue itself stores at most 255 levels."""


def decode_json(stored: str) -> Any:
    """Return the value of a JSON document, which can be encoded as JSON again.

    Raises ValueError if the document has a number that is too large, or too many levels.
    """
    try:
        value = _DECODER.decode(stored)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    # Only a document with that many brackets has to be walked through.
    if stored.count("[") + stored.count("{") > MAX_DEPTH and _is_deep(value):
        raise ValueError("it is nested too deeply")
    return value


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:40]} is too large")
    return number


_DECODER: Final = json.JSONDecoder(parse_float=_finite)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for each in level for child in _children(each)]
        if not level:
            return False
    return True


def _children(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return list(value.values()) if isinstance(value, dict) else []
