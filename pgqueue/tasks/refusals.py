"""Why a call, or what is stored of one, does not fit a handler, in words without its values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from pgqueue.errors import InvalidArgumentsError
from pgqueue.model.job_error import name_of
from pgqueue.tasks.mismatch import MOST_TOLD, without_values

THEIRS: Final[tuple[type[BaseException], ...]] = (Exception, SystemExit, GeneratorExit)
"""What a validator of a user's type raises. A KeyboardInterrupt can be the user's, and passes."""


class UndecodableError(Exception):
    """The stored arguments are invalid for the handler. Ends the job, not the worker."""


class TakesInputsError(UndecodableError):
    """The first argument of the call is still to be read: `inputs` says from what. See INPUTS."""

    def __init__(self, inputs: str) -> None:
        self.inputs = inputs
        super().__init__("its first argument comes from the jobs before it")


def call_error(task: str, error: ValidationError, named: Mapping[str, Any]) -> InvalidArgumentsError:
    """Return the error for a call of the arguments *named*, which pydantic refused with *error*."""
    if error.error_count() > MOST_TOLD:
        argument = next(iter(named)) if len(named) == 1 else None
        return InvalidArgumentsError(task, describe(error), argument=argument)
    first = error.errors(include_url=False)[0]
    argument = str(first["loc"][0]) if first["loc"] else None
    return InvalidArgumentsError(task, describe(error), argument=argument, cause=error)


def raised_by_theirs(task: str, error: BaseException) -> InvalidArgumentsError:
    """Return the error for a call whose arguments' own code (a validator, a serializer) raised *error*.

    It says no more of it: its message may repeat a secret, and its `__str__` may raise anything.
    """
    return InvalidArgumentsError(task, f"the code of an argument's type raised {name_of(type(error))}")


def describe_mismatch(error: BaseException) -> str:
    """Return why stored data could not be read, on one line; of pydantic's errors, without the values."""
    return describe(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"


def describe(error: ValidationError, *, names_extra: bool = True) -> str:
    """Return pydantic's errors on one line, by argument, without the values: they may be secret."""
    if (count := error.error_count()) > MOST_TOLD:
        return f"{count:,} values do not fit"
    errors = error.errors(include_url=False, include_context=False)
    return "; ".join(
        f"argument {'.'.join(map(str, place))!r}: {message}" if place else message
        for place, message in without_values(errors, names_extra=names_extra)
    )
