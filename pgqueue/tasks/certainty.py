"""Whether values surely come back from JSON as they were, found without reading them back.

A core schema is made into checks of columns once a type: the values that stand at one place of it, all at
once, at the speed of C. A check says yes only if it is sure. What has none is read back and compared.

The values were validated, and written without a warning. A model or a dataclass is trusted by pydantic where
it is passed: it may be of a subclass, changed since, or never validated, so that a constraint says nothing of
its fields, and the class of what they hold is looked at where a subclass would lose something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from enum import Flag
from itertools import chain
from math import isfinite
from operator import attrgetter
from typing import Any, Final

from pydantic_core import SchemaValidator

from pgqueue.model.json_values import Column, are_json, values_of
from pgqueue.tasks.core_schema import Schema

Check = Callable[[Column, int], bool]
"""Of a column, and of how many levels may follow. None instead of it: nothing has to be looked at."""

_MINUTE: Final = timedelta(minutes=1)
_STEP: Final = 64
_DIGITS: Final = bytes(ord("0") if chr(each) in "0123456789" else 0 for each in range(256))

_LEAVES: Final = frozenset({"str", "int", "bool", "none", "uuid", "decimal", "date", "timedelta"})
_PLAIN: Final = frozenset({"str", "int", "float"})
_KEYS: Final = frozenset({"str", "int", "uuid"})
_TOKENS: Final = {"str": "str", "int": "number", "float": "number", "bool": "bool", "none": "null"}
"""How the leaves of a union look in JSON: those that look differently are never taken for each other."""

# What a node can have without changing what comes back. Whatever else it has is not known here.
_NAMES: Final = frozenset({"type", "ref", "metadata", "strict", "title"})
_HARMLESS: Final[Mapping[str, frozenset[str]]] = {
    "datetime": frozenset({"microseconds_precision"}),
    "time": frozenset({"microseconds_precision"}),
    "timedelta": frozenset({"microseconds_precision"}),
    "literal": frozenset({"expected"}),
    "enum": frozenset({"cls", "members", "sub_type"}),
    "nullable": frozenset({"schema"}),
    "default": frozenset(
        {"schema", "default", "default_factory", "default_factory_takes_data", "copy_default"}
    ),
    "list": frozenset({"items_schema"}),
    "set": frozenset({"items_schema"}),
    "frozenset": frozenset({"items_schema"}),
    "tuple": frozenset({"items_schema", "variadic_item_index"}),
    "dict": frozenset({"keys_schema", "values_schema"}),
    "union": frozenset({"choices"}),
    "tagged-union": frozenset({"choices", "discriminator", "from_attributes"}),
    "definition-ref": frozenset({"schema_ref"}),
    "typed-dict-field": frozenset({"schema", "required"}),
    "model": frozenset({"cls", "config", "schema", "custom_init", "root_model", "frozen", "generic_origin"}),
    "model-fields": frozenset({"fields", "model_name", "computed_fields", "extra_behavior"}),
    "model-field": frozenset({"schema", "validation_alias", "serialization_alias", "frozen"}),
    "dataclass": frozenset(
        {"cls", "config", "schema", "fields", "post_init", "slots", "frozen", "generic_origin"}
    ),
    "dataclass-args": frozenset({"fields", "dataclass_name", "computed_fields", "collect_init_only"}),
    "dataclass-field": frozenset(
        {"name", "schema", "validation_alias", "serialization_alias", "frozen", "kw_only", "init"}
    ),
}
# Where nothing is trusted, the values fulfil them, and do so again.
_CONSTRAINTS: Final[Mapping[str, frozenset[str]]] = {
    "int": frozenset({"gt", "ge", "lt", "le", "multiple_of"}),
    "float": frozenset({"gt", "ge", "lt", "le", "multiple_of"}),
    "str": frozenset({"min_length", "max_length", "pattern"}),
    "list": frozenset({"min_length", "max_length"}),
    "dict": frozenset({"min_length", "max_length"}),
    "decimal": frozenset({"gt", "ge", "lt", "le", "multiple_of", "max_digits", "decimal_places"}),
    "datetime": frozenset({"tz_constraint"}),
}
_CONFIG: Final = frozenset(
    {
        "title",
        "strict",
        "from_attributes",
        "loc_by_alias",
        "populate_by_name",
        "validate_by_name",
        "validate_by_alias",
        "serialize_by_alias",
        "extra_fields_behavior",
        "hide_input_in_errors",
        "validation_error_cause",
        "validate_default",
        "ser_json_inf_nan",
        "ser_json_bytes",
        "val_json_bytes",
    }
)
"""A model's configuration that changes nothing of values of the types known here."""


class _UnsureError(Exception):
    """A schema is not known well enough."""


def find_check(schema: Schema, definitions: Sequence[Schema]) -> Check | None:
    """Return the check of the values of *schema*, which takes [value] and MAX_LEVELS; or None: never sure."""
    if schema.get("type") == "definitions":
        schema, definitions = schema["schema"], schema["definitions"]
    try:
        return _Maker(definitions).make(schema, trusted=False) or _yes
    except _UnsureError:
        return None


def has_long_integer(encoded: bytes, digits: int) -> bool:
    """Return whether there can be an integer of more than *digits* digits in a document."""
    if len(encoded) <= digits:
        return False
    # As many samples in a row, all of them digits, are in each run that is so long.
    return b"0" * (digits // _STEP) in encoded[::_STEP].translate(_DIGITS)


class _Maker:
    def __init__(self, definitions: Sequence[Schema]) -> None:
        self._definitions = {each["ref"]: each for each in definitions}
        self._made: dict[tuple[str, bool], Check | None] = {}

    def make(self, node: Schema, *, trusted: bool) -> Check | None:
        """Return the check of a column of *node*'s values. Raises _UnsureError."""
        kind = str(node.get("type"))
        unknown = node.keys() - _NAMES - _HARMLESS.get(kind, frozenset())
        if unknown - _CONSTRAINTS.get(kind, frozenset()):
            raise _UnsureError
        if unknown and trusted:
            if kind not in _PLAIN:
                raise _UnsureError
            return _all_of(_OWN[kind], _fulfil(node))
        if kind in _LEAVES:
            return _LEAF_CHECKS.get(kind) if trusted else None
        if kind == "any":
            return are_json
        try:
            make: Callable[..., Check | None] = getattr(self, f"_make_{kind.replace('-', '_')}")
        except AttributeError:
            raise _UnsureError from None
        return make(node, trusted=trusted)

    def _make_float(self, node: Schema, *, trusted: bool) -> Check | None:  # noqa: ARG002
        # What is no parameter's own may have a configuration by which others are null.
        return _are_own_floats if trusted else _are_finite

    def _make_datetime(self, node: Schema, *, trusted: bool) -> Check | None:  # noqa: ARG002
        return _have_whole_offsets

    def _make_time(self, node: Schema, *, trusted: bool) -> Check | None:  # noqa: ARG002
        return _have_no_zone

    def _make_literal(self, node: Schema, *, trusted: bool) -> Check | None:  # noqa: ARG002
        _check_kinds(node["expected"])
        return None

    def _make_enum(self, node: Schema, *, trusted: bool) -> Check | None:  # noqa: ARG002
        if issubclass(node["cls"], Flag):
            raise _UnsureError
        _check_kinds([each.value for each in node["members"]])
        return None

    def _make_nullable(self, node: Schema, *, trusted: bool) -> Check | None:
        inner = self.make(node["schema"], trusted=trusted)
        if inner is None:
            return None
        return lambda column, levels: inner([each for each in column if each is not None], levels)

    def _make_default(self, node: Schema, *, trusted: bool) -> Check | None:
        return self.make(node["schema"], trusted=trusted)

    _make_typed_dict_field = _make_default

    def _make_list(self, node: Schema, *, trusted: bool) -> Check | None:
        items = node.get("items_schema", {"type": "any"})
        if isinstance(items, list):
            if len(items) != 1 or node.get("variadic_item_index") != 0:
                raise _UnsureError
            items = items[0]
        kind = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[node["type"]]
        return _of_containers(kind, self.make(items, trusted=trusted), chain.from_iterable, trusted=trusted)

    _make_tuple = _make_set = _make_frozenset = _make_list

    def _make_dict(self, node: Schema, *, trusted: bool) -> Check | None:
        keys = node.get("keys_schema", {"type": "any"})
        if keys["type"] == "any":
            return are_json if node.get("values_schema", {"type": "any"})["type"] == "any" else _no
        if keys["type"] not in _KEYS or keys.get("strict") or self.make(keys, trusted=False):
            raise _UnsureError
        if trusted and keys["type"] != "str":
            raise _UnsureError
        values = self.make(node.get("values_schema", {"type": "any"}), trusted=trusted)
        check = _of_containers(dict, values, values_of, trusted=trusted)
        return _all_of(check, _have_own_keys) if trusted and check else check

    def _make_union(self, node: Schema, *, trusted: bool) -> Check | None:
        if trusted:
            raise _UnsureError
        choices = [each["type"] if isinstance(each, Mapping) else "" for each in node["choices"]]
        tokens = [_TOKENS.get(each) for each in choices]
        if None in tokens or len(set(tokens)) < len(tokens) or any(map(self._unlike, node["choices"])):
            raise _UnsureError
        return _are_finite_floats if "float" in choices else None

    @staticmethod
    def _unlike(choice: Schema) -> bool:
        return bool(choice.keys() - _NAMES)

    def _make_tagged_union(self, node: Schema, *, trusted: bool) -> Check | None:
        if not isinstance(node["discriminator"], str):
            raise _UnsureError
        checks: dict[type, Check] = {}
        for choice in node["choices"].values():
            model = self._resolve(choice)
            check = self.make(choice, trusted=trusted)
            if model["type"] not in {"model", "dataclass"} or check is None:
                raise _UnsureError
            checks[model["cls"]] = check
        return lambda column, levels: (
            set(map(type, column)) <= checks.keys()
            and all(check([x for x in column if type(x) is kind], levels) for kind, check in checks.items())
        )

    def _resolve(self, node: Schema) -> Schema:
        while node["type"] == "definition-ref":
            node = self._definitions[node["schema_ref"]]
        return node

    def _make_definition_ref(self, node: Schema, *, trusted: bool) -> Check | None:
        key = str(node["schema_ref"]), trusted
        if key not in self._made:
            # It may hold itself: until it is made, its check is looked up when it is called.
            self._made[key] = lambda column, levels: (
                not column or (levels > 0 and (self._made[key] or _yes)(column, levels - 1))
            )
            if key[0] not in self._definitions:
                raise _UnsureError
            self._made[key] = self.make(self._definitions[key[0]], trusted=trusted)
        return self._made[key]

    def _make_model(self, node: Schema, *, trusted: bool) -> Check | None:  # noqa: ARG002  # trusted where it is passed
        fields, kind = node["schema"], node["cls"]
        if node.get("custom_init") or node.get("root_model") or kind.__private_attributes__:
            raise _UnsureError
        if fields["type"] != "model-fields" or not fields.keys() <= _NAMES | _HARMLESS["model-fields"]:
            raise _UnsureError
        return self._of_objects(node, fields["fields"], fields.get("extra_behavior"))

    def _make_dataclass(self, node: Schema, *, trusted: bool) -> Check | None:  # noqa: ARG002  # as a model
        fields = node["schema"]
        if node.get("post_init") or node.get("slots") or fields["type"] != "dataclass-args":
            raise _UnsureError
        named = {each["name"]: each for each in fields["fields"]}
        if not fields.keys() <= _NAMES | _HARMLESS["dataclass-args"] or len(named) != len(node["fields"]):
            raise _UnsureError
        if not all(each.get("init", True) for each in named.values()):
            raise _UnsureError
        return self._of_objects(node, named, None)

    def _of_objects(self, node: Schema, fields: Mapping[str, Schema], extra: str | None) -> Check:
        config = node.get("config", {})
        if not config.keys() <= _CONFIG or "allow" in {extra, config.get("extra_fields_behavior")}:
            raise _UnsureError
        if any(not names.isdisjoint(fields) for names in map(_aliases, fields.values())):
            raise _UnsureError
        checks = []
        for name, field in fields.items():
            if not field.keys() <= _NAMES | _HARMLESS[field["type"]]:
                raise _UnsureError
            check = self.make(field["schema"], trusted=True)
            if check is not None:
                checks.append((attrgetter(name), check))
        return _of_class(node["cls"], len(fields), checks)


def _of_class(kind: type, size: int, checks: Sequence[tuple[Callable[[Any], Any], Check]]) -> Check:
    def are_whole(column: Column, levels: int) -> bool:
        for each in column:
            # One that was never validated may lack a field.
            if type(each) is not kind or len(each.__dict__) != size:
                return False
        return all(check([*map(field, column)], levels) for field, check in checks)

    return are_whole


def _of_containers(
    kind: type, inner: Check | None, values_of: Callable[[Column], Iterable[Any]], *, trusted: bool
) -> Check | None:
    if inner is None and not trusted:
        return None

    def are_whole(column: Column, levels: int) -> bool:
        return (not trusted or set(map(type, column)) <= {kind}) and (
            inner is None or inner([*values_of(column)], levels)
        )

    return are_whole


def _fulfil(leaf: Schema) -> Check:
    """Return the check whether values fulfil the constraints of *leaf*, which change none."""
    validator = SchemaValidator({"type": "list", "items_schema": leaf, "strict": True})
    return lambda column, _: validator.isinstance_python([*column])


def _all_of(*checks: Check) -> Check:
    return lambda column, levels: all(check(column, levels) for check in checks)


def _check_kinds(values: Sequence[Any]) -> None:
    """Raise _UnsureError unless *values* are different strings, or different integers."""
    kinds = set(map(type, values))
    if kinds not in ({str}, {int}) or len(set(values)) < len(values):
        raise _UnsureError


def _aliases(field: Schema) -> set[str]:
    """Return the names by which a field is looked for in a document, but for its own."""
    match field.get("validation_alias"):
        case None:
            return set()
        case str() as alias:
            return {alias}
        case _:
            raise _UnsureError


def _yes(column: Column, levels: int) -> bool:  # noqa: ARG001  # a check
    return True


def _no(column: Column, levels: int) -> bool:  # noqa: ARG001  # a check
    return not column


def _are_finite(column: Column, levels: int) -> bool:  # noqa: ARG001  # a check
    return isfinite(sum(filter(None, column)))


def _have_own_keys(column: Column, levels: int) -> bool:  # noqa: ARG001  # a check
    return set(map(type, chain.from_iterable(column))) <= {str}


def _are_own_floats(column: Column, levels: int) -> bool:
    """As _are_finite, of what may hold other numbers, which are rounded where they are written."""
    return set(map(type, column)) <= {float} and _are_finite(column, levels)


def _are_finite_floats(column: Column, levels: int) -> bool:  # noqa: ARG001  # a check
    return isfinite(sum(each for each in column if type(each) is float))


def _are_finite_decimals(column: Column, levels: int) -> bool:  # noqa: ARG001  # a check
    return all(map(Decimal.is_finite, column))


def _are_dates(column: Column, levels: int) -> bool:  # noqa: ARG001  # a check
    return set(map(type, column)) <= {date}


def _have_whole_offsets(column: Column, levels: int) -> bool:  # noqa: ARG001  # a check
    """Return whether all have offsets of whole minutes, or none. Seconds of an offset are not written."""
    zones = set(map(attrgetter("tzinfo"), column)) - {None}
    offsets = {zone.utcoffset(None) for zone in zones}
    if None in offsets:
        # The offset changes in the course of time.
        offsets = {when.utcoffset() for when in column} - {None}
    return not any(offset % _MINUTE for offset in offsets)


def _have_no_zone(column: Column, levels: int) -> bool:  # noqa: ARG001  # a check
    return set(map(attrgetter("tzinfo"), column)) <= {None}


def _are_ints(column: Column, levels: int) -> bool:  # noqa: ARG001  # a check
    return set(map(type, column)) <= {int}


def _are_strings(column: Column, levels: int) -> bool:  # noqa: ARG001  # a check
    return set(map(type, column)) <= {str}


_OWN: Final[Mapping[str, Check]] = {"int": _are_ints, "str": _are_strings, "float": _are_own_floats}
"""Whether values are of the very class: those of a subclass are written, but come back without it."""
_LEAF_CHECKS: Final[Mapping[str, Check]] = {
    **_OWN,
    "decimal": _are_finite_decimals,
    "date": _are_dates,
}
