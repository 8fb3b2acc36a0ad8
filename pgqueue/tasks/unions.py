"""Unions that take no value of one of their types for one of another, where pydantic would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from functools import partial
from operator import is_
from typing import Any, Final

from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo, with_info_wrap_validator_function

from pgqueue.tasks.core_schema import NOT_SCHEMAS, Schema

_MISTAKEN: Final = ({"decimal", "float"}, {"literal", "enum"})
"""Of these types of a union, a value of the one is taken for the other."""


def keep_kinds(node: Any) -> Any:
    """Return *node*, a core schema, with unions that take no value of one of their types for another.

    To pydantic an infinite Decimal is none, and a member of an Enum of integers is also the literal that it
    equals: a union would store the float, or the literal, of equal value.
    """
    if isinstance(node, list):
        items = [keep_kinds(each) for each in node]
        return node if all(map(is_, items, node)) else items
    if not isinstance(node, Mapping):
        return node
    changed = {key: each if key in NOT_SCHEMAS else keep_kinds(each) for key, each in node.items()}
    changed = node if all(map(is_, changed.values(), node.values())) else changed  # type: ignore[assignment]  # both are read
    if node.get("type") == "union":
        choices = [each for each in node["choices"] if isinstance(each, Mapping)]
        if any(pair <= {each["type"] for each in choices} for pair in _MISTAKEN):
            kinds = {kind for each in choices for kind in _kinds_of(each)}
            return with_info_wrap_validator_function(partial(_validate_kept, kinds), changed)
    return changed


def _kinds_of(choice: Schema) -> Iterable[type]:
    match choice["type"]:
        case "literal":
            return map(type, choice["expected"])
        case "enum":
            return [choice["cls"]]
        case kind:
            return [each for name, each in (("decimal", Decimal), ("float", float)) if name == kind]


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
