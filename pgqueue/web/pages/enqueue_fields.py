"""Fields of a form that are made from a task's types, and the arguments that they come to. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

MAX_PARAMETERS: Final = 40
"""Parameters that have fields of their own; a task with more takes them as one JSON text."""
SIMPLE: Final = {"string": "text", "integer": "number", "number": "number", "boolean": "choice"}

Kind = Literal["text", "secret", "number", "choice", "json"]


NO_DEFAULTS: Final[Mapping[str, Any]] = {}


class FieldError(ValueError):
    """What is in a field cannot be read."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form: one parameter."""

    name: str
    kind: Kind
    what: str
    """What it takes, in words."""
    is_needed: bool
    is_nullable: bool
    default: str | None
    """The default as JSON; None: there is none, or it is no JSON value."""
    choices: Sequence[str] = ()
    """Of a choice: the values, as JSON."""

    def read(self, given: str) -> tuple[bool, Any]:
        """Return whether *given* is an argument, and its value. Raises FieldError."""
        if self.kind in ("text", "secret"):
            if given or (self.is_needed and not self.is_nullable):
                return True, given
            return self.is_needed, None
        text = given.strip()
        if not text:
            if self.is_needed and not self.is_nullable:
                raise FieldError(self.name, "is required")
            return self.is_needed, None
        try:
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise FieldError(self.name, f"must be {self.what}") from None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.kind == "number" and not (is_number or (value is None and self.is_nullable)):
            raise FieldError(self.name, f"must be {self.what}")
        return True, value


def fields_of(schema: Mapping[str, Any], defaults: Mapping[str, Any] = NO_DEFAULTS) -> list[Field] | None:
    """Return the fields of the parameters that *schema* has; None: they are too many."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    if len(properties) > MAX_PARAMETERS:
        return None
    needed, definitions = schema.get("required", ()), schema.get("$defs", {})
    return [
        _field(
            name,
            each,
            definitions,
            is_needed=name in needed,
            default=_as_json(defaults[name]) if name in defaults else None,
        )
        for name, each in properties.items()
    ]


def arguments_of(fields: Sequence[Field], form: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arguments in *form*, and what is wrong with fields of it, by name."""
    arguments: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for field in fields:
        try:
            is_given, value = field.read(form.get(f"arg.{field.name}", ""))
        except FieldError as error:
            wrong[field.name] = str(error)
            continue
        if is_given:
            arguments[field.name] = value
    return arguments, wrong


def _field(
    name: str,
    schema: Mapping[str, Any],
    definitions: Mapping[str, Any],
    *,
    is_needed: bool,
    default: str | None,
) -> Field:
    resolved, is_nullable = _without_null(_resolved(schema, definitions), definitions)
    choices = _choices(resolved)
    kind: Kind = "json"
    if choices is not None:
        kind = "choice"
    elif _word(resolved, "type") in SIMPLE:
        kind = "secret" if resolved.get("format") == "password" else SIMPLE[resolved["type"]]  # type: ignore[assignment]  # of that table
    return Field(name, kind, _what(kind, resolved), is_needed, is_nullable, default, choices or ())


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *schema* without a reference at its top."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        found: Mapping[str, Any] = definitions.get(reference.rpartition("/")[2], {})
        return found
    return schema


def _without_null(
    schema: Mapping[str, Any], definitions: Mapping[str, Any]
) -> tuple[Mapping[str, Any], bool]:
    """Return *schema* without `null`, if one schema is left then, and whether it had it."""
    kinds = schema.get("anyOf")
    if not isinstance(kinds, list):
        return schema, False
    others = [each for each in kinds if each != {"type": "null"}]
    is_nullable = len(others) < len(kinds)
    return (_resolved(others[0], definitions) if len(others) == 1 else schema), is_nullable


def _word(schema: Mapping[str, Any], key: str) -> str:
    """Return the text at *key*; empty if there is none: `type` can be a list of several."""
    found = schema.get(key, "")
    return found if isinstance(found, str) else ""


def _choices(schema: Mapping[str, Any]) -> list[str] | None:
    """Return the values of a schema that has only some, as JSON; None: it has any number."""
    if "const" in schema:
        return [json.dumps(schema["const"])]
    if isinstance(schema.get("enum"), list):
        return [json.dumps(each) for each in schema["enum"]]
    return ["true", "false"] if schema.get("type") == "boolean" else None


def _what(kind: Kind, schema: Mapping[str, Any]) -> str:
    match kind:
        case "number":
            return "a whole number" if schema.get("type") == "integer" else "a number"
        case "text":
            formats = {
                "date-time": "a time such as 2026-01-31T09:00:00Z",
                "date": "a date such as 2026-01-31",
            }
            kept: str = formats.get(_word(schema, "format"), _word(schema, "format") or "text")
            return kept
        case "secret":
            return "text, which is not shown again"
        case "choice":
            return "one of the values"
        case _:
            return {"array": "a JSON array", "object": "a JSON object"}.get(
                _word(schema, "type"), "a JSON value"
            )


def _as_json(value: Any) -> str | None:
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(constant)
