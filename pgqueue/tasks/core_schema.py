"""Pydantic's core schemas: what a node of one is, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
