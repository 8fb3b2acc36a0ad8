"""How far a job has come, as its handler says. Values only."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

from pgqueue.errors import InvalidProgressError
from pgqueue.model.stored_json import decode_json

MAX_META: Final = 8 * 1024
"""Bytes of a report's meta, as JSON."""

_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come."""

    current: float
    total: float | None
    """None: not known."""
    meta: Any
    """What the handler sent along, as JSON gives it."""


def encode_progress(current: float, total: float | None, meta: Any) -> str:
    """Return the JSON of a report. Raises InvalidProgressError."""
    _check_amount("current", current)
    if total is not None:
        _check_amount("total", total)
    return f'{{"current": {json.dumps(current)}, "total": {json.dumps(total)}, "meta": {_encode_meta(meta)}}}'


def decode_progress(stored: str) -> Progress:
    """Return what `encode_progress` made JSON of. Raises ValueError for what it did not."""
    match decode_json(stored):
        case {"current": int() | float() as current, "total": int() | float() | None as total, "meta": meta}:
            return Progress(current, total, meta)
        case _:
            raise ValueError("it is no report of progress")


def _check_amount(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidProgressError(f"progress: {what} is {value!r}: give a number")
    try:
        amount = float(value)
    except OverflowError:
        raise InvalidProgressError(
            f"progress: {what} is larger than any number that a job can have"
        ) from None
    if not math.isfinite(amount) or amount < 0:
        raise InvalidProgressError(f"progress: {what} is {value!r}: give a finite number, zero or more")


def _encode_meta(meta: Any) -> str:
    if meta is None:
        return "null"
    try:
        document = json.dumps(meta, ensure_ascii=False, allow_nan=False)
        size = len(document.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidProgressError(f"progress: meta cannot be stored as JSON: {error}") from error
    if size > MAX_META:
        raise InvalidProgressError(
            f"progress: meta takes {size:,} bytes as JSON and the limit is {MAX_META:,}: store it elsewhere"
        )
    if _ESCAPED_NUL.search(document):
        raise InvalidProgressError("progress: meta contains a NUL character, which PostgreSQL cannot store")
    return document
