"""Arguments as they may be shown: those that the option `redact` names are replaced. Knows no tasks.

A value that cannot be told apart from one to redact is redacted too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

REDACTED: Final = "[redacted]"
MAX_DEPTH: Final = 200
"""Levels of objects and arrays that are searched; values below are redacted."""

_ONE, _ANY = "*", "**"
_SEPARATOR: Final = re.compile("[.-]")

Paths = frozenset[tuple[str, ...]]
NOTHING: Final[Paths] = frozenset()


@dataclass(frozen=True, slots=True)
class Parameters:
    """How stored arguments become a handler's parameters."""

    by_position: Sequence[str] = ()
    rest: str | None = None
    """The parameter that takes surplus positional arguments."""
    named_rest: str | None = None
    """The parameter that takes arguments by other names; they are stored as its value."""

    def name_of(self, position: int) -> str | None:
        """Return the parameter at *position*; None: it is not known."""
        return self.by_position[position] if position < len(self.by_position) else self.rest


UNKNOWN: Final = Parameters()
"""For a task that this process does not declare."""


def redact(
    arguments: Any,
    paths: Collection[str],
    *,
    positional: str = "*",
    parameters: Parameters = UNKNOWN,
    secrets: Paths = NOTHING,
) -> Any:
    """Return stored *arguments* with REDACTED for the values that *paths* name. The others are not copied.

    A path is an argument's name, or names joined by dots that lead into its objects; arrays are
    searched. `*` stands for any one name, `**` for any number of them. Upper and lower case, `-` and `_` are
    the same, and a key of words joined by dots or dashes is also each end of it. *positional*: the key under
    which an object has arguments by position. *secrets*: the paths of values whose types say that they are
    secret.
    """
    if not paths and not secrets:
        return arguments
    start = _folded(secrets.union(tuple(path.split(".")) for path in paths))
    match arguments:
        case list():
            return _redact_positional(arguments, start, parameters)
        case dict():
            return {
                name: _redact_positional(value, start, parameters)
                if name == positional and isinstance(value, list)
                else _redact_named(name, value, start, parameters)
                for name, value in arguments.items()
            }
        case _:
            # Not arguments: an encoded document that could not be decoded, for example.
            return REDACTED


def redact_value(value: Any, secrets: Paths) -> Any:
    """Return *value*, which is not arguments, with REDACTED for the values at *secrets*."""
    return _redact(value, _folded(secrets), MAX_DEPTH)


def redact_headers(headers: Mapping[str, str], paths: Collection[str]) -> dict[str, str]:
    """Return a job's *headers* with REDACTED for those that *paths* name."""
    start = _folded(frozenset(tuple(path.split(".")) for path in paths))
    return {name: _redact(value, _below(start, name), MAX_DEPTH) for name, value in headers.items()}


def find_mark(given: Any, stored: Any) -> str | None:
    """Return the path in *given* of a REDACTED that *stored* does not have too; None: there is none.

    Arguments that were copied from a page that shows them have it instead of the value.
    """
    left: list[tuple[tuple[str, ...], Any, Any]] = [((), given, stored)]
    while left:
        path, value, before = left.pop()
        match value:
            case str() if value == REDACTED and before != REDACTED:
                return ".".join(path)
            case dict():
                known = before if isinstance(before, dict) else {}
                left += [((*path, name), each, known.get(name)) for name, each in value.items()]
            case list():
                others = before if isinstance(before, list) else []
                padded = [*others, *[None] * len(value)]
                left += [((*path, str(index)), each, padded[index]) for index, each in enumerate(value)]
            case _:
                pass
    return None


def _redact_positional(values: list[Any], start: Paths, parameters: Parameters) -> list[Any]:
    named = [(parameters.name_of(position), value) for position, value in enumerate(values)]
    return [
        REDACTED if name is None else _redact_named(name, value, start, parameters) for name, value in named
    ]


def _redact_named(name: str, value: Any, start: Paths, parameters: Parameters) -> Any:
    paths = _below(start, name)
    if name == parameters.named_rest:
        paths |= start
    return _redact(value, paths, MAX_DEPTH)


def _redact(value: Any, paths: Paths, depth: int) -> Any:
    """Return *value* with the values at *paths* redacted. An empty path is *value* itself."""
    if () in paths:
        return REDACTED
    if not paths or not isinstance(value, dict | list):
        return value
    if depth == 0:
        return REDACTED
    if isinstance(value, list):
        return [_redact(each, paths, depth - 1) for each in value]
    return {name: _redact(each, _below(paths, name), depth - 1) for name, each in value.items()}


def _below(paths: Paths, key: str) -> Paths:
    """Return the rest of *paths* after *key*, which can be a path itself, or several words.

    `user.password`, `User-Password` and `PASSWORD` are passwords.
    """
    left = _after(paths, _fold(key))
    if paths and ("." in key or "-" in key):
        ends = [each.end() for each in _SEPARATOR.finditer(key)]
        for end in ends[-MAX_DEPTH:]:
            left |= _after(paths, _fold(key[end:]))
        inner = paths
        for part in key.split(".", MAX_DEPTH):
            inner = _after(inner, _fold(part))
        left |= inner
    return left


def _after(paths: Paths, name: str) -> Paths:
    left = set()
    for path in paths:
        if path and path[0] == _ANY:
            left.add(path)
            # Any number of names includes none: the rest may begin here.
            left |= _after(frozenset({path[1:]}), name)
        elif path and path[0] in (_ONE, name):
            left.add(path[1:])
    return frozenset(left)


def _folded(paths: Paths) -> Paths:
    return frozenset(tuple(map(_fold, path)) for path in paths)


def _fold(name: str) -> str:
    return name.casefold().replace("-", "_")
