"""A task's parameters, checked by pydantic: from a call to JSON, and from JSON to a call.

Only arguments that the caller passed are stored; the handler's defaults apply when it runs. `payload` says in
which form.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from copy import copy
from functools import cached_property
from typing import Any, NotRequired, get_args, get_origin

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticSerializationError, SchemaSerializer, SchemaValidator, from_json, to_json

from pgqueue.errors import InvalidArgumentsError, InvalidTaskError, PgQueueError
from pgqueue.tasks.annotations import CORE_CONFIG, adapter_of, hints_of, typed_dict, with_aware_datetimes
from pgqueue.tasks.core_schema import validator_of
from pgqueue.tasks.dependencies import Dependencies, Dependency, dependency_in, is_context
from pgqueue.tasks.mismatch import MOST_TOLD
from pgqueue.tasks.payload import INPUTS, POSITIONAL, check_payload, unwritable
from pgqueue.tasks.redaction import Parameters, Paths
from pgqueue.tasks.refusals import (
    THEIRS,
    TakesInputsError,
    UndecodableError,
    call_error,
    describe,
    describe_mismatch,
    raised_by_theirs,
)
from pgqueue.tasks.results import Results
from pgqueue.tasks.round_trip import MAX_DIGITS, Form
from pgqueue.tasks.unions import keep_kinds

_Parameter = inspect.Parameter


class Arguments:
    """The parameters of one handler.

    Raises InvalidTaskError on construction if a parameter's type cannot be stored as JSON, or its
    default is invalid for its type.
    """

    def __init__(self, task: str, handler: Callable[..., Any], *, context_type: type) -> None:
        self._task = task
        self._theirs = THEIRS
        hints = hints_of(task, handler)
        self.takes_context = False
        """Whether the handler's first parameter takes the context, which is no argument of a job."""
        self._positional: list[str] = []
        self._positional_only: list[str] = []
        self._rest: str | None = None
        self._named_rest: str | None = None
        self._defaults: dict[str, Any] = {}
        shape: dict[str, Any] = {}
        dependencies: dict[str, Dependency] = {}
        is_before_rest = False
        for place, parameter in enumerate(inspect.signature(handler).parameters.values()):
            annotation = hints.get(parameter.name, Any)
            if is_context(annotation, context_type):
                self._take_context(parameter, place, context_type.__name__)
            elif (dependency := dependency_in(parameter, annotation)) is not None:
                dependencies[parameter.name] = self._depend(parameter, dependency)
                is_before_rest |= parameter.kind is _Parameter.POSITIONAL_OR_KEYWORD
            else:
                shape[parameter.name] = self._take(parameter, with_aware_datetimes(annotation))
        rest: str | None = self._rest
        if rest and is_before_rest:
            # The arguments that *rest takes would shift into it.
            raise InvalidTaskError(
                f"task {task!r} takes *{rest}: declare its dependencies after it, keyword-only"
            )
        self.dependencies = Dependencies(task, context_type, dependencies)
        """What fills the parameters that are no arguments of a job."""
        self._shape = shape
        self._without_first: Arguments | None = None
        self._names = shape.keys() - {self._rest, self._named_rest}
        self._set_form(adapter_of(task, "a parameter", typed_dict(task, shape)).core_schema)
        # Calls by keyword alone need no rearranging when the handler runs: the usual case.
        self._is_plain = not (self._positional_only or self._rest or self._named_rest)

    def _set_form(self, schema: Any) -> None:
        kept = keep_kinds(schema)
        validator = SchemaValidator(schema) if kept is schema else validator_of(kept)
        # A TypedDict's own configuration does not apply to the serialisation of its fields: pass it again.
        self._form = Form(kept, validator, SchemaSerializer(kept, CORE_CONFIG))
        self._validate, self._to_json, self._from_json = self._form.calls
        self._is_exact = self._form.is_exact

    def _take_context(self, parameter: inspect.Parameter, place: int, what: str) -> None:
        if self.takes_context:
            raise InvalidTaskError(f"task {self._task!r} declares two {what} parameters")
        if place > 0 or parameter.kind not in (
            _Parameter.POSITIONAL_ONLY,
            _Parameter.POSITIONAL_OR_KEYWORD,
        ):
            # Type checkers leave out a first parameter alone: of any other, they would ask each caller.
            raise InvalidTaskError(
                f"task {self._task!r}: parameter {parameter.name!r} takes the {what} and must come first; "
                "or leave it out, and call current_job() in the handler"
            )
        self.takes_context = True

    def _depend(self, parameter: inspect.Parameter, dependency: Dependency) -> Dependency:
        if parameter.kind not in (_Parameter.POSITIONAL_OR_KEYWORD, _Parameter.KEYWORD_ONLY):
            raise InvalidTaskError(
                f"task {self._task!r}: parameter {parameter.name!r} is a dependency, so it must be one that "
                "can be passed by name"
            )
        return dependency

    def _take(self, parameter: inspect.Parameter, annotation: Any) -> Any:
        """Note one parameter; return the annotation of its field in the stored object."""
        match parameter.kind:
            case _Parameter.VAR_POSITIONAL:
                self._rest = parameter.name
                return NotRequired[list[annotation]]
            case _Parameter.VAR_KEYWORD:
                self._named_rest = parameter.name
                return NotRequired[dict[str, annotation]]
            case _Parameter.POSITIONAL_ONLY:
                self._positional_only.append(parameter.name)
                self._positional.append(parameter.name)
            case _Parameter.POSITIONAL_OR_KEYWORD:
                self._positional.append(parameter.name)
            case _:
                pass
        if parameter.default is _Parameter.empty:
            return annotation
        self._defaults[parameter.name] = self._check_default(parameter, annotation)
        return NotRequired[annotation]

    def _check_default(self, parameter: inspect.Parameter, annotation: Any) -> Any:
        try:
            return adapter_of(self._task, f"parameter {parameter.name!r}", annotation).validate_python(
                parameter.default
            )
        except ValidationError as error:
            raise InvalidTaskError(
                f"task {self._task!r}: the default {parameter.default!r} of parameter {parameter.name!r} "
                f"is invalid for its type: {error.errors()[0]['msg']}"
            ) from error

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, limit: int) -> str:
        """Return the JSON of a call, checked against the handler's annotations.

        *limit* is in bytes. Raises InvalidArgumentsError or PayloadTooLargeError.
        """
        try:
            named = self._by_name(args, kwargs) if args or self._named_rest else kwargs
            try:
                values = self._validate(named)
            except ValidationError as error:
                raise call_error(self._task, error, named) from error
            try:
                encoded = self._to_json(values)
            except (PydanticSerializationError, UnicodeEncodeError):
                encoded = self._checked(values, self._write_anyway(values))
            else:
                if not (
                    (self._is_exact and len(encoded) <= MAX_DIGITS) or self._form.comes_back(values, encoded)
                ):
                    encoded = self._checked(values, encoded)
        except PgQueueError:
            raise
        except self._theirs as error:
            raise raised_by_theirs(self._task, error) from error
        return check_payload(self._task, encoded, limit)

    def _write_anyway(self, values: dict[str, Any]) -> bytes:
        """Return the JSON of *values*, of which some are not of their types. Raises InvalidArgumentsError."""
        try:
            return self._form.write_anyway(values)
        except (PydanticSerializationError, UnicodeEncodeError) as error:
            raise unwritable(self._task, values, self._form.write_anyway, error) from error

    def _checked(self, values: dict[str, Any], encoded: bytes) -> bytes:
        """Return what to store so that the handler gets *values*. Raises InvalidArgumentsError."""
        try:
            stored, changed = self._form.check(values, encoded)
        except Exception as error:
            # The validators of a user's types may raise anything.
            name = self._unreadable(values, error)
            what = "the arguments" if name is None else f"argument {name!r}"
            problem = f"{what} cannot be read back from JSON: {describe_mismatch(error)}"
            raise InvalidArgumentsError(self._task, problem, argument=name) from None
        if changed is not None:
            problem = f"argument {changed.name!r} {changed}"
            raise InvalidArgumentsError(self._task, problem, argument=changed.name)
        return stored

    def _unreadable(self, values: dict[str, Any], error: Exception) -> str | None:
        """Return the argument because of which *values* cannot be read back, if it can be told."""
        if isinstance(error, ValidationError) and error.error_count() <= MOST_TOLD:
            place = error.errors(include_input=False, include_url=False, include_context=False)[0]["loc"]
            if place:
                return str(place[0])
        # The whole document was refused: a number has too many digits, or there are too many levels.
        for name, value in values.items():
            try:
                from_json(self._to_json({name: value}))
            except ValueError:
                return name
        return next(iter(values)) if len(values) == 1 else None

    @property
    def first(self) -> str | None:
        """The parameter that takes the first positional argument."""
        return self._positional[0] if self._positional else self._rest

    @property
    def first_type(self) -> Any:
        """The annotation of that parameter; of `*rest`, that of one."""
        if self.first is None:
            return Any
        annotation = self._shape[self.first]
        if get_origin(annotation) is NotRequired:
            [annotation] = get_args(annotation)
        return get_args(annotation)[0] if self.first == self._rest else annotation

    @cached_property
    def read_items(self) -> Callable[[str], list[Any]] | None:
        """What reads a page of results, a JSON array, for a first parameter Results[...]; None for any other.

        It raises ValidationError.
        """
        first = self.first_type
        if get_origin(first) is not Results or self.first == self._rest:
            return None
        [item] = get_args(first)
        adapter: TypeAdapter[Any] = adapter_of(self._task, "a result", list[item])  # type: ignore[valid-type]
        return adapter.validate_json

    def with_first(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a decoded call with another first argument."""
        if args:
            return (value, *args[1:]), kwargs
        assert self.first is not None
        return args, {**kwargs, self.first: value}

    def without_first(self) -> Arguments:
        """Return these parameters for calls whose first argument is the result before them.

        Raises InvalidArgumentsError if the handler takes none by position.
        """
        if self.first is None:
            raise InvalidArgumentsError(
                self._task, "takes no positional argument, and so no result; use .si(...) to pass none"
            )
        if not self._positional:
            # The result comes before the others of *rest.
            return self
        if self._without_first is None:
            others = copy(self)
            others._leave_out_first()  # noqa: SLF001  # of this class
            self._without_first = others
        return self._without_first

    def _leave_out_first(self) -> None:
        first = self._positional[0]
        self._positional = self._positional[1:]
        self._positional_only = self._positional_only[1:]
        self._shape = {name: annotation for name, annotation in self._shape.items() if name != first}
        self._names = self._names - {first}
        self._set_form(adapter_of(self._task, "a parameter", typed_dict(self._task, self._shape)).core_schema)

    def prepend(self, document: str, result: str) -> str:
        """Return the stored arguments *document* of a link with *result*, as JSON, before the others."""
        given = from_json(document)
        del given[INPUTS]
        first = self.first
        if first is None or POSITIONAL in given:
            given[POSITIONAL] = [from_json(result), *given.get(POSITIONAL, ())]
        elif first == self._rest:
            given[first] = [from_json(result), *given.get(first, ())]
        else:
            rest = to_json(given).decode()[1:]
            return f"{{{to_json(first).decode()}:{result}{',' if given else ''}{rest}"
        return to_json(given).decode()

    def for_json(self) -> Arguments:
        """Return these parameters for calls whose arguments are JSON values, as clients of HTTP send them.

        In JSON a value can mean something else than in Python: for bytes, a string is base64.
        """
        others = copy(self)
        others._validate = self._form.validate_json_values  # noqa: SLF001  # of this class
        # No Ctrl-C and no cancellation comes while a server reads a request: all is of the validators.
        others._theirs = (BaseException,)  # noqa: SLF001  # the same
        return others

    @property
    def secrets(self) -> Paths:
        """Where stored arguments have secrets, by the annotations."""
        return self._form.secrets

    def is_surplus(self, name: str) -> bool:
        """Whether the handler has no parameter that takes the stored argument *name*."""
        return self._named_rest is None and name not in (*self._names, self._rest, POSITIONAL)

    @property
    def names(self) -> Collection[str]:
        """The names of the parameters, without those that take the rest."""
        return self._names

    @property
    def defaults(self) -> Mapping[str, Any]:
        """What parameters are that a call does not give."""
        return self._defaults

    @property
    def parameters(self) -> Parameters:
        """How stored arguments become parameters."""
        return Parameters(self._positional, self._rest, self._named_rest)

    @cached_property
    def json_schema(self) -> dict[str, Any] | None:
        """The JSON schema of calls by name; None: some can only be made by position, or a type has none."""
        if not self._is_plain:
            return None
        try:
            return adapter_of(self._task, "a parameter", typed_dict(self._task, self._shape)).json_schema()
        except (PydanticUserError, PydanticInvalidForJsonSchema):
            return None

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise InvalidArgumentsError for a call that is invalid for the handler."""
        self.encode(args, kwargs, limit=sys.maxsize)

    def _by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        named = dict(zip(self._positional, args, strict=False))
        surplus = args[len(self._positional) :]
        if surplus:
            if self._rest is None:
                raise InvalidArgumentsError(
                    self._task,
                    f"takes {len(self._positional)} positional arguments, got {len(args)}",
                )
            named[self._rest] = list(surplus)
        extra: dict[str, Any] = {}
        for name, value in kwargs.items():
            if self._named_rest is not None and name not in self._names:
                extra[name] = value
            elif name in named:
                raise InvalidArgumentsError(
                    self._task, f"argument {name!r} is passed both by position and by name", argument=name
                )
            else:
                named[name] = value
        if extra and self._named_rest is not None:
            named[self._named_rest] = extra
        return named

    def decode(self, stored: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and named arguments of a stored call, for the handler.

        Raises UndecodableError.
        """
        try:
            # One pass in C for the usual case; documents that it refuses are examined below.
            values = self._from_json(stored)
        except ValidationError as error:
            values = self._decode_positional(stored, error)
        if self._defaults and len(values) < len(self._names):
            values = {**self._defaults, **values}
        return ((), values) if self._is_plain else self._as_call(values)

    def _as_call(self, values: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        positional = [values.pop(name) for name in self._positional_only if name in values]
        if self._rest is not None and values.get(self._rest):
            positional = [
                *positional,
                *(values.pop(name) for name in self._positional if name in values),
                *values.pop(self._rest),
            ]
        elif self._rest is not None:
            values.pop(self._rest, None)
        if self._named_rest is not None:
            values.update(values.pop(self._named_rest, {}))
        return tuple(positional), values

    def _decode_positional(self, stored: str, error: ValidationError) -> dict[str, Any]:
        try:
            raw = from_json(stored)
            if isinstance(raw, list):
                raw = {POSITIONAL: raw}
            if isinstance(raw, dict) and isinstance(raw.get(INPUTS), str):
                raise TakesInputsError(raw[INPUTS])
            if not isinstance(raw, dict) or not isinstance(raw.get(POSITIONAL), list):
                raise UndecodableError(describe(error, names_extra=False)) from error
            named = self._by_name(tuple(raw.pop(POSITIONAL)), raw)
            return self._from_json(to_json(named))  # type: ignore[no-any-return]
        except ValidationError as second:
            raise UndecodableError(describe(second, names_extra=False)) from second
        except (InvalidArgumentsError, ValueError) as second:
            raise UndecodableError(str(second)) from second
