"""Where the values of a core schema have secrets, and how these are stored in plain."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final, Literal

from pydantic_core import from_json, to_json

from pgqueue.tasks.core_schema import Schema, children
from pgqueue.tasks.redaction import Paths

Path = tuple[str, ...]

_ARRAYS: Final = (list, tuple, AbstractSet, deque)


def reveal(shown: Any, values: Any, bytes_mode: Literal["utf8", "base64"]) -> Any:
    """Return *shown*, the JSON of *values*, with its secrets in plain: pydantic writes asterisks.

    *values*: the same document with the secrets as objects.
    """
    if is_secret(type(values)):
        return from_json(to_json(values.get_secret_value(), inf_nan_mode="strings", bytes_mode=bytes_mode))
    if isinstance(shown, dict) and isinstance(values, dict) and len(shown) == len(values):
        pairs = zip(shown.items(), values.values(), strict=True)
        return {name: reveal(each, value, bytes_mode) for (name, each), value in pairs}
    if isinstance(shown, list) and isinstance(values, _ARRAYS) and len(shown) == len(values):
        return [reveal(each, value, bytes_mode) for each, value in zip(shown, values, strict=True)]
    return shown


def is_secret(kind: type) -> bool:
    """Return whether values of the type *kind* hide what they hold, as pydantic's SecretStr does."""
    return hasattr(kind, "get_secret_value")


def find_secrets(schema: Schema) -> Paths:
    """Return the paths at which the JSON of values of *schema* has secrets; () is the value itself."""
    definitions: dict[str, Schema] = {}
    # Few types have any, and only theirs are walked by path.
    return frozenset(_walk(schema, definitions, {})) if _has_secrets(schema, definitions) else frozenset()


def _has_secrets(node: Any, definitions: dict[str, Schema]) -> bool:
    """Return whether there is a secret at all, and note the definitions."""
    found = isinstance(node, Mapping) and _is_secret_schema(node)
    if isinstance(node, Mapping) and isinstance(node.get("ref"), str):
        definitions[node["ref"]] = node
    for child in children(node):
        found |= _has_secrets(child, definitions)
    return found


def _walk(node: Any, definitions: Mapping[str, Schema], around: Mapping[str, set[str]]) -> set[Path]:
    """Return the paths below *node*. *around*: the definitions that it is in, which note their recursion."""
    if not isinstance(node, Mapping):
        return {path for child in children(node) for path in _walk(child, definitions, around)}
    if _is_secret_schema(node):
        return {()}
    kind = node.get("type")
    ref = node.get("schema_ref") if kind == "definition-ref" else node.get("ref")
    if isinstance(ref, str) and ref in around:
        around[ref].add(ref)
        return set()
    if kind == "definition-ref":
        return _walk(definitions.get(str(ref), {}), definitions, around)
    if kind == "definitions":
        return _walk(node["schema"], definitions, around)
    repeats: set[str] = set()
    if isinstance(ref, str):
        around = {**around, ref: repeats}
    if kind == "dict":
        found = {("*", *path) for path in _walk(node.get("values_schema", {}), definitions, around)}
        found |= {() for _ in _walk(node.get("keys_schema", {}), definitions, around)}
    else:
        found = set()
        for names, child in _namedchildren(node):
            below = _walk(child, definitions, around)
            found |= {(*name, *path) for name in names for path in below}
    return found | {("**", *path) for path in found} if repeats else found


def _namedchildren(node: Schema) -> Iterator[tuple[list[Path], Any]]:
    """Yield the nodes in *node*, each with the paths at which its values can be in the JSON."""
    fields = node.get("fields")
    if isinstance(fields, Mapping):
        yield from ((_names(name, field), field.get("schema")) for name, field in fields.items())
    elif isinstance(fields, list) and all(isinstance(field, Mapping) for field in fields):
        yield from ((_names(field["name"], field), field.get("schema")) for field in fields)
    else:
        # Those of a dataclass are names, and its schema has the fields.
        itself: Path = ()
        yield from (([itself], child) for child in children(node))


def _names(name: str, field: Schema) -> list[Path]:
    """Return the paths at which a field's value can be: its name, and its aliases, which may be paths."""
    match field.get("validation_alias"):
        case str() as alias:
            aliases: list[list[Any]] = [[alias]]
        case [list(), *_] as choices:
            aliases = choices
        case list() as path:
            aliases = [path]
        case _:
            aliases = []
    return [(name,), *(tuple(each for each in path if isinstance(each, str)) for path in aliases)]


def _is_secret_schema(node: Schema) -> bool:
    if node.get("type") == "is-instance":
        return is_secret(node["cls"])
    function = node.get("serialization", {}).get("function")
    return getattr(function, "__module__", "") == "pydantic.types" and "secret" in function.__name__
