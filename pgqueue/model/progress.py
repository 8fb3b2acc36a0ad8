"""The progress of a job, as its handler reports it. Values only."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

from pgqueue.errors import InvalidProgressError
from pgqueue.model.json_values import are_json
from pgqueue.model.stored_json import decode_json

MAX_META: Final = 8 * 1024
"""Maximum size of a report's meta, in bytes of JSON."""

_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a job."""

    current: float
    total: float | None
    """None if it is not known."""
    meta: Any
    """Data that the handler attached, decoded from JSON."""


def encode_progress(current: float, total: float | None, meta: Any) -> str:
    """Return the JSON of a report. Raises InvalidProgressError."""
    _check_amount("current", current)
    if total is not None:
        _check_amount("total", total)
    return f'{{"current": {json.dumps(current)}, "total": {json.dumps(total)}, "meta": {_encode_meta(meta)}}}'


def decode_progress(stored: str) -> Progress:
    """Return the progress in the JSON that `encode_progress` made. Raises ValueError for other JSON."""
    match decode_json(stored):
        case {"current": int() | float() as current, "total": int() | float() | None as total, "meta": meta}:
            return Progress(current, total, meta)
        case _:
            raise ValueError("it is not a progress report")


def _check_amount(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidProgressError(f"progress: {what} must be a number, got {value!r}")
    try:
        amount = float(value)
    except OverflowError:
        raise InvalidProgressError(f"progress: {what} is too large a number") from None
    if not math.isfinite(amount) or amount < 0:
        raise InvalidProgressError(f"progress: {what} must be a finite number, zero or more, got {value!r}")


def _encode_meta(meta: Any) -> str:
    if meta is None:
        return "null"
    try:
        document = json.dumps(meta, ensure_ascii=False, allow_nan=False)
        size = len(document.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidProgressError(f"progress: meta cannot be stored as JSON: {error}") from error
    if not are_json([meta]):
        raise InvalidProgressError(
            "progress: meta would not come back from JSON as it is: pass JSON's own values (None, bool, int, "
            "finite float, str, list, and dict with str keys)"
        )
    if size > MAX_META:
        raise InvalidProgressError(
            f"progress: meta takes {size:,} bytes as JSON and the limit is {MAX_META:,}: "
            "store the data elsewhere and pass a reference to it"
        )
    if _ESCAPED_NUL.search(document):
        raise InvalidProgressError("progress: meta contains a NUL character, which PostgreSQL cannot store")
    return document
