"""A task's result, checked by pydantic: from what the handler returned to JSON, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, SchemaSerializer, SchemaValidator

from pgqueue.tasks.annotations import ANYTHING, CORE_CONFIG, adapter_of, hints_of
from pgqueue.tasks.core_schema import validator_of
from pgqueue.tasks.payload import contains_nul
from pgqueue.tasks.redaction import Paths
from pgqueue.tasks.refusals import THEIRS, describe, describe_mismatch
from pgqueue.tasks.round_trip import MAX_DIGITS, Form
from pgqueue.tasks.unions import keep_kinds


class Result:
    """The result of one handler."""

    def __init__(self, task: str, handler: Callable[..., Any]) -> None:
        annotation = hints_of(task, handler).get("return", Any)
        adapter = ANYTHING if annotation is Any else adapter_of(task, "its result", annotation)
        validator, serializer = cast(SchemaValidator, adapter.validator), adapter.serializer
        schema = keep_kinds(adapter.core_schema)
        if schema is not adapter.core_schema:
            validator, serializer = (
                validator_of(schema, CORE_CONFIG),
                SchemaSerializer(schema, CORE_CONFIG),
            )
        self._form = Form(schema, validator, serializer, CORE_CONFIG)
        self._validate, self._to_json, self._from_json = self._form.calls
        self._is_exact = self._form.is_exact
        self._may_be_none = self._keeps_none()

    def _keeps_none(self) -> bool:
        try:
            return self._validate(None) is None and self._from_json("null") is None
        except THEIRS:
            # Not only pydantic's: the validators of a user's type may raise anything for None.
            return False

    @property
    def secrets(self) -> Paths:
        """Where stored results have secrets, by the annotation."""
        return self._form.secrets

    def encode(self, value: Any, *, limit: int) -> str:
        """Return the JSON of a result, which `decode` makes the same again. *limit* is in bytes.

        Raises ValueError.
        """
        if value is None and self._may_be_none:
            # The result of most handlers.
            return "null"
        try:
            checked = self._validate(value)
        except ValidationError as error:
            raise ValueError(f"the result does not match the task's annotation: {describe(error)}") from error
        is_sure = False
        try:
            encoded = self._to_json(checked)
            is_sure = (self._is_exact and len(encoded) <= MAX_DIGITS) or self._form.comes_back(
                checked, encoded
            )
        except (PydanticSerializationError, UnicodeEncodeError):
            try:
                encoded = self._form.write_anyway(checked)
            except (PydanticSerializationError, UnicodeEncodeError) as error:
                raise ValueError(f"the result cannot be stored as JSON: {error}") from error
        if not is_sure:
            try:
                encoded, changed = self._form.check(checked, encoded)
            except Exception as error:
                # The validators of a user's types may raise anything.
                problem = f"the result cannot be read back from JSON: {describe_mismatch(error)}"
                raise ValueError(problem) from None
            if changed is not None:
                raise ValueError(f"the result {changed}")
        if len(encoded) > limit:
            raise ValueError(f"the result is {len(encoded):,} bytes as JSON; the limit is {limit:,}")
        if contains_nul(encoded):
            raise ValueError("the result contains a NUL character, which PostgreSQL cannot store")
        return encoded.decode()

    def decode(self, stored: str) -> Any:
        """Return the value of a stored result. Raises ValueError."""
        return self._from_json(stored)


def result_of(what: str, annotation: Any) -> Result:
    """Return how values of a type are stored: *what* names them in errors. Raises InvalidTaskError."""

    def returns() -> None: ...

    returns.__annotations__["return"] = annotation
    return Result(what, returns)
