"""Unions and keys that take no value of one of their types for one of another, where pydantic would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, Final
from uuid import UUID

from pydantic_core import PydanticCustomError, from_json, to_json
from pydantic_core.core_schema import ValidationInfo, with_info_wrap_validator_function

from pgqueue.tasks.core_schema import Schema, rewrite
from pgqueue.tasks.secret_places import find_secrets

_MISTAKEN: Final = ({"decimal", "float"}, {"literal", "enum"})
"""Of these types of a union, a value of the one is taken for the other."""
_TEXTS: Final = frozenset({"str", "bytes"})
"""Of these, a value that its own type refuses: one that is too short, for example."""
_PLAIN: Final = frozenset({"type", "metadata", "ref"})
"""What the schema of a type has that refuses none of its values."""
_KINDS: Final[Mapping[str, type]] = {
    "str": str,
    "bytes": bytes,
    "int": int,
    "float": float,
    "decimal": Decimal,
    "date": date,
    "datetime": datetime,
    "uuid": UUID,
}
"""The types of leaves of unions that a secret, or one of _MISTAKEN, would take."""
_MEMBERS: Final = ("members", "expected")


def keep_kinds(schema: Any) -> Any:
    """Return a core schema with unions and keys that take no value of one of their types for another.

    To pydantic an infinite Decimal is none, and a member of an Enum of integers is also the literal that it
    equals: a union would store the float, or the literal, of equal value. A string is also a secret, and one
    that is too short for its own type is bytes. And a key that is no string in Python is one in JSON, where
    pydantic does not find it among values.
    """
    return rewrite(schema, _keep)


def _keep(node: Schema) -> Schema:
    match node.get("type"):
        case "union":
            choices = [each for each in node["choices"] if isinstance(each, Mapping)]
            names = {each["type"] for each in choices}
            kinds = {kind for each in choices for kind in _kinds_of(each)}
            has_secrets = any(() in find_secrets(each) for each in choices)
            refuses = names >= _TEXTS and any(
                each["type"] in _TEXTS and not each.keys() <= _PLAIN for each in choices
            )
            if kinds and (has_secrets or refuses or any(pair <= names for pair in _MISTAKEN)):
                return with_info_wrap_validator_function(partial(_validate_kept, kinds), node)
        case "dict" if node.get("keys_schema", {}).get("type") in {"enum", "literal"}:
            keys = node["keys_schema"]
            by_text = _texts([each for kind in _MEMBERS for each in keys.get(kind, ())])
            if by_text:
                read = with_info_wrap_validator_function(partial(_validate_key, by_text), keys)
                return {**node, "keys_schema": read}
        case _:
            pass
    return node


def _texts(keys: Sequence[Any]) -> Mapping[str, Any]:
    """Return the values that *keys* have, by their texts as keys in JSON; none if all are texts, or alike."""
    values = [each.value if isinstance(each, Enum) else each for each in keys]
    if not set(map(type, values)) <= {str, int, bool, float} or set(map(type, values)) == {str}:
        return {}
    by_text: dict[str, Any] = {}
    for value in values:
        [text] = from_json(to_json({value: None}))
        if by_text.setdefault(text, value) != value:
            return {}
    return by_text


def _validate_key(
    by_text: Mapping[str, Any], key: Any, validate: Callable[[Any], Any], info: ValidationInfo[Any]
) -> Any:
    return validate(by_text.get(key, key) if info.mode == "json" else key)


def _kinds_of(choice: Schema) -> Iterable[type]:
    match choice["type"]:
        case "literal":
            return map(type, choice["expected"])
        case "enum":
            return [choice["cls"]]
        case kind:
            return [_KINDS[kind]] if kind in _KINDS else []


def _validate_kept(
    kinds: AbstractSet[type], value: Any, validate: Callable[[Any], Any], info: ValidationInfo[Any]
) -> Any:
    found = validate(value)
    if info.mode == "python" and type(value) in kinds and type(found) is not type(value):
        given, back = type(value).__name__, type(found).__name__
        raise PydanticCustomError(
            "kind_changed",
            "Input should keep its type, {given} becomes {back}",
            {"given": given, "back": back},
        )
    return found
