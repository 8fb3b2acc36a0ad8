"""Arguments and results as Celery's JSON has them, so that each value comes back as it does there.

Tuples come back as lists, and keys as strings. Times, dates, UUIDs, decimals and bytes keep their types: they
are marked in the way that Celery's own serializer marks them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

_TYPE, _VALUE = "__type__", "__value__"
_MARKED: Final = {_TYPE, _VALUE}


def _text_of_bytes(value: bytes) -> dict[str, Any]:
    try:
        return {_TYPE: "bytes", _VALUE: value.decode()}
    except UnicodeDecodeError:
        return {_TYPE: "base64", _VALUE: base64.b64encode(value).decode()}


# A datetime is a date: it comes first.
_PACKED: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (datetime, lambda value: {_TYPE: "datetime", _VALUE: value.isoformat()}),
    (date, lambda value: {_TYPE: "date", _VALUE: value.isoformat()}),
    (time, lambda value: {_TYPE: "time", _VALUE: value.isoformat()}),
    (Decimal, lambda value: {_TYPE: "decimal", _VALUE: str(value)}),
    (UUID, lambda value: {_TYPE: "uuid", _VALUE: {"hex": value.hex}}),
    (bytes, _text_of_bytes),
)
_UNPACKED: Final[dict[str, Callable[[Any], Any]]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda value: UUID(**value) if isinstance(value, dict) else UUID(value),
    "bytes": lambda value: value.encode(),
    "base64": base64.b64decode,
}


def pack(value: Any) -> Any:
    """Return *value* as JSON values. Raises TypeError if there is no form for it, ValueError for a circle."""
    if value is None or type(value) in (bool, int, str):
        return value
    return json.loads(json.dumps(value, default=_default))


def unpack(value: Any) -> Any:
    """Return what was packed. Marks that are not known stay as they are."""
    if isinstance(value, dict):
        if value.keys() == _MARKED and (make := _UNPACKED.get(value[_TYPE])) is not None:
            return make(value[_VALUE])
        return {name: unpack(each) for name, each in value.items()}
    return [unpack(each) for each in value] if isinstance(value, list | tuple) else value


def _default(value: Any) -> Any:
    own = getattr(value, "__json__", None)
    if own is not None:
        return own()
    for kind, packed in _PACKED:
        if isinstance(value, kind):
            return packed(value)
    raise TypeError(
        f"a {type(value).__name__} cannot be an argument or a result of a task: JSON has no form for it"
    )
