"""The arguments of a call as they are stored, whatever the handler.

They are one JSON object by parameter name. If the names are not known (a call by task name, SQL), positional
arguments are stored under "*", or the document is an array.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import PydanticSerializationError, from_json, to_json

from pgqueue.errors import InvalidArgumentsError, PayloadTooLargeError
from pgqueue.tasks.annotations import ANYTHING
from pgqueue.tasks.refusals import THEIRS, raised_by_theirs
from pgqueue.tasks.round_trip import find_changed

POSITIONAL: Final = "*"
"""The key of positional arguments whose names the caller did not know. No parameter can have this name."""

INPUTS: Final = "<"
"""The key that says that a job of a workflow takes its first argument from the results before it, and how.

The handler's parameters refuse it, so a plain job pays nothing for the question, and a worker of a version
without workflows does not run the job without its first argument.
"""

_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def encode_by_name(task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, limit: int) -> str:
    """Return the JSON of a call of a task that this process does not declare: the worker validates it.

    Raises InvalidArgumentsError or PayloadTooLargeError.
    """
    named = {POSITIONAL: list(args), **kwargs} if args else dict(kwargs)
    try:
        encoded = ANYTHING.serializer.to_json(named)
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise unwritable(task, named, ANYTHING.serializer.to_json, error) from error
    except THEIRS as error:
        raise raised_by_theirs(task, error) from error
    name = find_changed(named, encoded)
    if name is not None:
        raise InvalidArgumentsError(
            task,
            f"argument {name!r} would not come back from JSON as it is, and its type is not known here: "
            "declare the task here, or pass JSON's own values (None, bool, int, finite float, str, list, and "
            "dict with str keys)",
            argument=name,
        )
    return check_payload(task, encoded, limit)


def unwritable(
    task: str, values: Mapping[str, Any], write: Callable[[Any], bytes], error: Exception
) -> InvalidArgumentsError:
    """Return the error of a call that raised *error* when it was written, with the argument that did."""
    culprit = None
    for name, value in values.items():
        try:
            write({name: value})
        except (PydanticSerializationError, UnicodeEncodeError):
            # Those by position have no names.
            culprit = None if name == POSITIONAL else name
            break
    what = "the arguments" if culprit is None else f"argument {culprit!r}"
    return InvalidArgumentsError(task, f"{what} cannot be stored as JSON: {error}", argument=culprit)


def is_json(arguments: Mapping[str, Any]) -> bool:
    """Return whether all *arguments* are JSON's own values."""
    try:
        return find_changed(arguments, to_json(arguments)) is None
    except (PydanticSerializationError, UnicodeEncodeError):
        return False


def check_payload(task: str, encoded: bytes, limit: int) -> str:
    """Return *encoded* as a string to store. Raises InvalidArgumentsError, PayloadTooLargeError."""
    if len(encoded) > limit:
        raise PayloadTooLargeError(task, size=len(encoded), limit=limit)
    if contains_nul(encoded):
        name = _find_nul(from_json(encoded))
        raise InvalidArgumentsError(
            task, f"argument {name!r} contains a NUL character, which PostgreSQL cannot store", argument=name
        )
    return encoded.decode()


def contains_nul(encoded: bytes) -> bool:
    """Return whether a text in *encoded*, which is JSON, has a NUL character."""
    # Every job pays only for the plain search; the expression tells an escaped backslash from an escape.
    return b"\\u0000" in encoded and _ESCAPED_NUL.search(encoded) is not None


def _find_nul(arguments: Any) -> str | None:
    named = arguments if isinstance(arguments, dict) else {POSITIONAL: arguments}
    return next((name for name, value in named.items() if contains_nul(to_json({name: value}))), None)
