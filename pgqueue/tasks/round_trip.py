"""Whether a value comes back from JSON as it was. Knows pydantic's schemas, and no tasks.

Most types are exact: every value of theirs comes back, so that nothing has to be compared. This is found once
a type. Of most others a look at the values is enough (`certainty`). What is left is decoded again where it
enters, and compared with what was given.
"""

from __future__ import annotations

import dataclasses
import marshal
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import CoreConfig, SchemaSerializer, SchemaValidator, from_json, to_json

from pgqueue.model.json_values import MAX_LEVELS, are_json
from pgqueue.tasks.certainty import find_check, has_long_integer
from pgqueue.tasks.core_schema import Schema, children
from pgqueue.tasks.exact_floats import ExactFloats
from pgqueue.tasks.secret_places import find_secrets, reveal

Read = Callable[[Any], Any]
Compare = Callable[[Any, Any, list[type]], bool]

MAX_DIGITS: Final = 4_300
"""Of an integer: Python, and pydantic's parser, read no more. A shorter document can have no longer one."""

_REPLACED: Final = "\ufffd".encode()
"""What pydantic writes for a lone surrogate in a key. In a value it is refused."""
_EXACT: Final = frozenset({"str", "int", "bool", "none", "float", "uuid"})
_CHANGES: Final = frozenset(
    {
        "serialization",
        "validation_alias",
        "serialization_alias",
        "serialization_exclude",
        "serialization_exclude_if",
    }
)
_CONTAINERS: Final = frozenset({"list", "set", "frozenset", "tuple", "dict"})
_BUILTIN: Final = frozenset({str, int, bool, type(None)})
_MARSHALLED: Final = _BUILTIN | {float, list, dict, tuple}
_BY_VALUE: Final = (UUID, datetime, date, time, timedelta, Decimal)
"""A subclass of one of these stands for its value: pendulum's and freezegun's times, asyncpg's UUID."""
_VERSION: Final = 2
"""Of marshal: the last one without references, so that equal values have equal bytes."""


def is_exact(schema: Schema) -> bool:
    """Return whether every value that *schema* validated comes back from JSON as it was.

    Integers of more than 4,300 digits do not: Python does not read them.
    """
    if schema.keys() & _CHANGES:
        return False
    match schema.get("type"):
        case "literal":
            return all(type(each) is str for each in schema["expected"])
        case "nullable" | "typed-dict-field":
            return is_exact(schema["schema"])
        case "list" | "set" | "frozenset" | "tuple":
            inner = schema.get("items_schema", {})
            return all(map(is_exact, inner)) if isinstance(inner, list) else is_exact(inner)
        case kind:
            # An infinite float is written as a string, which is no float to a strict reader.
            return kind in _EXACT and not (kind == "float" and schema.get("strict"))


def takes_anything(node: Any) -> bool:
    """Return whether a schema has a place without a type: `Any`, `object`, a bare container."""
    if isinstance(node, Mapping):
        kind = node.get("type")
        is_bare = kind in _CONTAINERS and not node.keys() & {"items_schema", "values_schema"}
        if kind == "any" or is_bare:
            return True
    return any(map(takes_anything, children(node)))


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A value that would come back as another; `name`: its field, or None. As text: what to do."""

    name: str | None
    is_untyped: bool
    given: str
    """Its type."""
    back: str
    """The type that would come back."""

    def __str__(self) -> str:
        became = f" ({self.given} becomes {self.back})" if self.given != self.back else f" ({self.given})"
        return f"would not come back from JSON as it is{became}: " + (
            "annotate it with its type; without one, only JSON's own values come back (None, bool, int, "
            "finite float, str, list, and dict with str keys)"
            if self.is_untyped
            else "its annotation does not keep all of it; annotate it otherwise, or pass what comes back"
        )


_UNREADABLE: Final = Change(None, is_untyped=False, given="", back="")


class Form:
    """The JSON form of the values of a core schema, from which they come back as they were."""

    def __init__(
        self,
        schema: Schema,
        validator: SchemaValidator,
        serializer: SchemaSerializer,
        config: CoreConfig | None = None,
    ) -> None:
        fields = _fields_of(schema)
        self._fields = {name: takes_anything(field) for name, field in fields.items() if not is_exact(field)}
        """The fields that are not exact, and whether it is for want of a type. None: the whole value."""
        self.is_exact = not self._fields
        self.secrets = find_secrets(schema)
        self._to_python = partial(serializer.to_python, by_alias=False, round_trip=True, warnings=False)
        validate: Read = validator.validate_python
        read, write = validator.validate_json, serializer.to_json
        self.write_anyway: Callable[[Any], bytes] = write
        """As the second of `calls`, also what is of another type than its annotation."""
        options: dict[str, Any] = {}
        if any(map(_has_options, fields.values())):
            # By the names of fields, which are unique, where pydantic's default is to write names and to read
            # aliases; and without what is computed, which cannot be read.
            options = {"by_alias": True, "by_name": True}
            validate, read = partial(validate, **options), partial(read, **options)
            self.write_anyway = partial(write, by_alias=False, round_trip=True, warnings=False)
            write = partial(write, by_alias=False, round_trip=True, warnings="error")
        self._floats = ExactFloats(schema, fields, config, **options)
        validate = self._floats.validating(validate)
        self.calls: tuple[Read, Callable[[Any], bytes], Read] = validate, write, read
        """How values are validated, written as JSON and read from it; with options only where they matter."""
        found = {name: find_check(fields[name], schema.get("definitions", ())) for name in self._fields}
        self._checks = {name: check for name, check in found.items() if check is not None}
        self._is_checked = len(self._checks) == len(found) and not self.secrets

    def validate_json_values(self, values: Any) -> Any:
        """Return what *values*, which are JSON's own, mean. Raises ValidationError."""
        _, _, read = self.calls
        encoded = to_json(values)
        found = read(encoded)
        self._floats.check_json(values, encoded, found)
        return found

    def comes_back(self, value: Any, encoded: bytes) -> bool:
        """Return whether *value*, written without a warning, surely comes back; if not, `check` tells."""
        if not self._is_checked or has_long_integer(encoded, MAX_DIGITS) or _REPLACED in encoded:
            return False
        try:
            return all(
                check([value if name is None else value[name]], MAX_LEVELS)
                for name, check in self._checks.items()
                if name is None or name in value
            )
        except Exception:
            # What a user's type holds may be anything.
            return False

    def check(self, value: Any, encoded: bytes) -> tuple[bytes, Change | None]:
        """Return the JSON to store for *value*, with its secrets, and what would not come back.

        Raises ValidationError if it cannot be read.
        """
        if not self.secrets:
            return self._compare(value, encoded, encoded)
        try:
            stored, change = self._compare(value, encoded, self._reveal(value, encoded, "utf8"))
        except ValueError:
            stored, change = encoded, _UNREADABLE
        if change is None:
            return stored, None
        # Models write bytes as UTF-8, and other types as base64.
        return self._compare(value, encoded, self._reveal(value, encoded, "base64"))

    def _compare(self, value: Any, encoded: bytes, stored: bytes) -> tuple[bytes, Change | None]:
        _, _, read = self.calls
        back = read(stored)
        doubtful = []
        for name, is_untyped in self._fields.items():
            if name is not None and name not in value:
                continue
            one, other = (value, back) if name is None else (value[name], back.get(name))
            doubts: list[type] = []
            if not is_same(one, other, doubts):
                return stored, Change(name, is_untyped, type(one).__name__, type(other).__name__)
            if doubts:
                doubtful.append(name)
        if doubtful and self.write_anyway(back) != encoded:
            name = doubtful[0]
            kind = type(value if name is None else value[name]).__name__
            return stored, Change(name, is_untyped=False, given=kind, back=kind)
        return stored, None

    def _reveal(self, value: Any, encoded: bytes, bytes_mode: Literal["utf8", "base64"]) -> bytes:
        return to_json(reveal(from_json(encoded), self._to_python(value), bytes_mode))


def _has_options(node: Any) -> bool:
    """Return whether names, aliases or JSON in JSON can be in values of a schema."""
    if isinstance(node, Mapping) and (
        node.get("type") in {"model", "dataclass", "typed-dict", "json", "definition-ref"}
        or "validation_alias" in node
    ):
        return True
    return any(map(_has_options, children(node)))


def _fields_of(schema: Schema) -> Mapping[str | None, Schema]:
    """Return the fields of a call's schema, by name, or another schema under None."""
    top = schema.get("schema", {}) if schema.get("type") == "definitions" else schema
    return top["fields"] if top.get("type") == "typed-dict" else {None: schema}


def find_changed(values: Mapping[str, Any], encoded: bytes) -> str | None:
    """Return the name of a value that is not one of JSON's own; *encoded*: all of them as JSON."""
    if are_json([values]) and not has_long_integer(encoded, MAX_DIGITS) and _REPLACED not in encoded:
        return None
    try:
        back = from_json(encoded, allow_inf_nan=False)
    except ValueError:
        back = {}
    return next(
        (name for name in values if name not in back or not is_same(values[name], back[name], [])),
        None,
    )


def is_same(given: Any, back: Any, doubts: list[type]) -> bool:
    """Return whether *back* is of the type and value of *given*. NaN is like itself.

    To *doubts* goes the type of each object that does not say when it is equal.
    """
    kind = type(given)
    if kind is type(back):
        return bool(given == back) if kind in _BUILTIN else _way_of(kind)(given, back, doubts)  # type: ignore[arg-type]  # mypy: a type has a hash
    if kind is int and type(back) is float:
        # A model trusts its instances, and a float may be written as an int.
        return bool(given == back)
    by_value = isinstance(given, _BY_VALUE) and isinstance(given, type(back))
    return by_value and _is_equal(given, back, doubts)


@lru_cache(maxsize=1000)
def _way_of(kind: Hashable) -> Compare:
    """Return how two values of *kind* are compared. Found once: asking for an abstract class takes long."""
    assert isinstance(kind, type)
    if issubclass(kind, BaseModel):
        return _way_of_fields((*kind.__pydantic_fields__, "__pydantic_extra__", "__pydantic_private__"))
    if dataclasses.is_dataclass(kind):
        return _way_of_fields([each.name for each in dataclasses.fields(kind)])
    for base, way in _WAYS:
        if issubclass(kind, base):
            return way
    return _is_equal


def _way_of_fields(names: Sequence[str]) -> Compare:
    def is_same_object(given: Any, back: Any, doubts: list[type]) -> bool:
        for name in names:
            one, other = getattr(given, name, None), getattr(back, name, None)
            if one is not other and not is_same(one, other, doubts):
                return False
        return True

    return is_same_object


def _is_same_mapping(given: Any, back: Any, doubts: list[type]) -> bool:
    return len(given) == len(back) and (
        _is_same_plain(given, back)
        or all(
            is_same(name, other_name, doubts) and is_same(value, other, doubts)
            for (name, value), (other_name, other) in zip(given.items(), back.items(), strict=True)
        )
    )


def _is_same_array(given: Any, back: Any, doubts: list[type]) -> bool:
    if len(given) != len(back):
        return False
    if not given or type(given[0]) in _MARSHALLED:
        is_plain = _is_same_plain(given, back)
    else:
        is_plain = isinstance(given[0], BaseModel) and _are_same_models(given, back)
    return is_plain or all(
        one is other or is_same(one, other, doubts) for one, other in zip(given, back, strict=True)
    )


def _are_same_models(given: Any, back: Any) -> bool:
    """Return whether two arrays are of models that have nothing but equal fields of built-in types."""
    kinds = {*map(type, given), *map(type, back)}
    return (
        len(kinds) == 1
        and all(each.__pydantic_extra__ is each.__pydantic_private__ is None for each in (*given, *back))
        and _is_same_plain([each.__dict__ for each in given], [each.__dict__ for each in back])
    )


def _is_same_set(given: Any, back: Any, doubts: list[type]) -> bool:
    found = {each: each for each in back}
    return len(given) == len(found) and all(
        each in found and is_same(each, found[each], doubts) for each in given
    )


def _is_same_plain(given: Any, back: Any) -> bool:
    """Return whether two containers are made of built-in types alone and equal. In C, and by exact type."""
    try:
        return marshal.dumps(given, _VERSION) == marshal.dumps(back, _VERSION)
    except ValueError:
        return False


def _is_same_moment(given: datetime, back: datetime, doubts: list[type]) -> bool:  # noqa: ARG001  # as others
    return _moment(given) == _moment(back)


def _is_equal(given: Any, back: Any, doubts: list[type]) -> bool:
    if given is back:
        return True
    equals: object = type(given).__eq__
    if equals is object.__eq__ and not isinstance(given, Enum):
        doubts.append(type(given))
        return True
    try:
        return bool(given == back) or bool(given != given and back != back)  # noqa: PLR0124  # NaN
    except Exception:  # their `__eq__` may raise anything
        doubts.append(type(given))
        return True


_WAYS: Final[Sequence[tuple[type, Compare]]] = (
    (Mapping, _is_same_mapping),
    (list, _is_same_array),
    (tuple, _is_same_array),
    (deque, _is_same_array),
    (AbstractSet, _is_same_set),
    (datetime, _is_same_moment),
    # Equal ones may have other digits.
    (Decimal, lambda given, back, _: str(given) == str(back)),
)


def _moment(when: datetime) -> tuple[datetime, bool]:
    """Return *when* in UTC, and whether it is aware. An hour that comes twice equals none of another zone."""
    offset = when.utcoffset()
    naive = when.replace(tzinfo=None, fold=0)
    try:
        return (naive, False) if offset is None else (naive - offset, True)
    except OverflowError:
        return naive, True
