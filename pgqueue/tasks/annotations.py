"""What pydantic makes of a handler's annotations: adapters of types, and the shape of a call."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import AwareDatetime, ConfigDict, PydanticUserError, TypeAdapter
from pydantic_core import CoreConfig
from typing_extensions import TypedDict

from pgqueue.errors import InvalidTaskError
from pgqueue.tasks.core_schema import has_kind

# Nothing may turn into something else on its way: without these, infinity would be stored as null
# and bytes that are not UTF-8 would be refused.
_CONFIG: Final = ConfigDict(ser_json_inf_nan="strings", ser_json_bytes="base64", val_json_bytes="base64")

CORE_CONFIG: Final = CoreConfig(ser_json_inf_nan="strings", ser_json_bytes="base64", val_json_bytes="base64")

ANYTHING: Final = TypeAdapter[Any](Any, config=_CONFIG)
"""Of values whose type is not known."""

_ITERATOR: Final = re.compile(r"\b(Iterator|AsyncIterable|AsyncGenerator|AsyncIterator)\b")


def hints_of(task: str, handler: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of *handler* by name. Raises InvalidTaskError if one cannot be resolved."""
    try:
        return get_type_hints(handler, include_extras=True)
    except NameError as error:
        raise InvalidTaskError(
            f"task {task!r}: {error}; annotations are resolved when the task is declared, so the name must "
            "exist by then, outside `if TYPE_CHECKING`"
        ) from error


def typed_dict(task: str, shape: dict[str, Any]) -> Any:
    """Return the TypedDict of calls with the fields *shape*, and no others."""
    typed = TypedDict(task, shape)  # type: ignore[misc]  # made at run time
    setattr(typed, "__pydantic_config__", ConfigDict(extra="forbid", **_CONFIG))  # noqa: B010  # mypy sees no such attribute
    return typed


def adapter_of(task: str, what: str, annotation: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter of *annotation*. Raises InvalidTaskError if there can be none."""
    try:
        adapter = _pydantics_adapter(annotation)
    except (PydanticUserError, NameError, TypeError) as error:
        reason = str(error).splitlines()[0]
        if _ITERATOR.search(reason):
            raise _iterated_once(task, what) from error
        raise InvalidTaskError(f"task {task!r}: {what} cannot be stored as JSON: {reason}") from error
    if has_kind(adapter.core_schema, "generator"):
        raise _iterated_once(task, what)
    return adapter


def _pydantics_adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter[Any](annotation, config=_CONFIG)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        # A model, a dataclass or a TypedDict, however it is written, has a configuration of its own.
        return TypeAdapter[Any](annotation)


def _iterated_once(task: str, what: str) -> InvalidTaskError:
    # Pydantic would read what the caller passed only once, and validate its items only then.
    return InvalidTaskError(
        f"task {task!r}: {what} is an iterable that can be read only once, which cannot be stored as JSON: "
        "annotate list[...]"
    )


def with_aware_datetimes(annotation: Any) -> Any:
    """Return *annotation* with each plain `datetime` required to be aware.

    A naive one can mean different moments to the worker and to the caller. Annotate with pydantic's
    NaiveDatetime to accept one; fields of models keep the model's own annotations.
    """
    if annotation is datetime:
        return AwareDatetime
    origin, args = get_origin(annotation), get_args(annotation)
    if not args or origin in (Annotated, Callable):
        return annotation
    changed = tuple(with_aware_datetimes(each) for each in args)
    if changed == args:
        return annotation
    if origin in (Union, types.UnionType):
        return Union[changed]  # noqa: UP007  # made at run time
    return origin[changed]
