"""Stored JSON as values. PostgreSQL takes documents that Python, or a reader of its JSON, does not."""

from __future__ import annotations

import json
import math
from typing import Any, Final

MAX_DEPTH: Final = 300
"""Levels of arrays and objects. pgqueue itself stores no more than 255."""


def decode_json(stored: str) -> Any:
    """Return the value of a JSON document that can be made JSON of again.

    Raises ValueError for one with a number that is too large, or with too many levels.
    """
    try:
        value = _DECODER.decode(stored)
    except RecursionError:
        raise ValueError("it has too many levels") from None
    # Few documents have so many brackets that they need to be walked through.
    if stored.count("[") + stored.count("{") > MAX_DEPTH and _is_deep(value):
        raise ValueError("it has too many levels")
    return value


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is too large a number")
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
