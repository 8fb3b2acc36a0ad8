"""Pydantic's core schemas: what a node of one is, and what it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import is_
from typing import Any, Final

from pydantic_core import CoreConfig, SchemaValidator

Schema = Mapping[str, Any]
"""A node of a core schema."""

NOT_SCHEMAS: Final = frozenset(
    {"metadata", "serialization", "expected", "default", "config", "computed_fields"}
)
"""Keys whose values are no nodes."""


def children(node: Any) -> list[Any]:
    """Return the nodes right below *node*."""
    if isinstance(node, Mapping):
        return [child for key, child in node.items() if key not in NOT_SCHEMAS]
    return list(node) if isinstance(node, list | tuple) else []


def rewrite(node: Any, change: Callable[[Schema], Schema]) -> Any:
    """Return *node* with each node of it changed by *change*, the inner ones first.

    What nothing changes in is the same object.
    """
    if isinstance(node, list):
        items = [rewrite(each, change) for each in node]
        return node if all(map(is_, items, node)) else items
    if not isinstance(node, Mapping):
        return node
    changed = {key: each if key in NOT_SCHEMAS else rewrite(each, change) for key, each in node.items()}
    return change(node if all(map(is_, changed.values(), node.values())) else changed)


def has_kind(node: Any, kind: str) -> bool:
    """Return whether *node* or one in it is of the type *kind*. Definitions are not looked up."""
    return (isinstance(node, Mapping) and node.get("type") == kind) or any(
        has_kind(child, kind) for child in children(node)
    )


def validator_of(schema: Any, config: CoreConfig | None = None) -> SchemaValidator:
    """Return a validator of a schema that was rewritten.

    Otherwise pydantic takes the validator that a model has already, whatever its schema says here.
    """
    try:
        return SchemaValidator(schema, config, _use_prebuilt=False)
    except TypeError:
        # Older versions always take it: of models, what would not come back is found by comparing alone.
        return SchemaValidator(schema, config)
