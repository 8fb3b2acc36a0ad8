"""Numbers for a float that it cannot hold exactly are refused, where pydantic would round them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

from pydantic_core import CoreConfig, PydanticCustomError, SchemaValidator
from pydantic_core.core_schema import no_info_wrap_validator_function

from pgqueue.tasks.core_schema import Schema, has_kind, rewrite, validator_of


class ExactFloats:
    """The floats in the values of a core schema.

    What was given and what was validated are compared at the speed of C, and nearly always equal. Only if
    they are not, as a string and its number are not either, the value is validated once more, number by
    number.
    """

    def __init__(
        self, schema: Schema, fields: Mapping[str | None, Schema], config: CoreConfig | None, **options: Any
    ) -> None:
        self._schema = schema
        self._config = config
        self._options = options
        are_defined = any(has_kind(each, "float") for each in schema.get("definitions", ()))
        self.fields = [
            name
            for name, field in fields.items()
            if has_kind(field, "float") or (are_defined and has_kind(field, "definition-ref"))
        ]
        """The fields that can have a float; [None]: the whole value."""

    def validating(self, validate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return *validate* as it refuses numbers that would be rounded, by a ValidationError."""

        def validate_exactly(given: Any) -> Any:
            found = validate(given)
            if not self._are_kept(given, found):
                self._careful.validate_python(given, **self._options)
            return found

        return validate_exactly if self.fields else validate

    def check_json(self, given: Any, encoded: bytes, found: Any) -> None:
        """Raise ValidationError if *given*, as JSON *encoded* and read as *found*, has such a number."""
        if not self._are_kept(given, found):
            self._careful.validate_json(encoded, **self._options)

    def _are_kept(self, given: Any, found: Any) -> bool:
        for name in self.fields:
            if name is None:
                one, other = given, found
            elif name in found:
                one, other = given.get(name), found[name]
            else:
                continue
            try:
                if one is not other and not one == other:  # noqa: SIM201  # an array's `!=` is no bool
                    return False
            except Exception:
                # The `__eq__` of a user's type may raise anything.
                return False
        return True

    @cached_property
    def _careful(self) -> SchemaValidator:
        return validator_of(rewrite(self._schema, _refuse_rounding), self._config)


def _refuse_rounding(node: Schema) -> Schema:
    match node.get("type"):
        case "float":
            return no_info_wrap_validator_function(_validate_exactly, node)
        case "union":
            # Named as it was, for messages.
            return {
                **node,
                "choices": [(each, "float") if _is_ours(each) else each for each in node["choices"]],
            }
        case _:
            return node


def _is_ours(choice: Any) -> bool:
    return isinstance(choice, Mapping) and choice.get("function", {}).get("function") is _validate_exactly


def _validate_exactly(given: Any, validate: Callable[[Any], Any]) -> Any:
    found = validate(given)
    if isinstance(given, int | Decimal | Fraction) and given != found and given == given:  # noqa: PLR0124  # NaN
        raise PydanticCustomError("float_rounded", "Input should be a number that a float holds exactly")
    return found
