"""Stands for the tasks that this process does not declare: any arguments, as JSON's own values."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Final

from pydantic_core import from_json, to_json

from pgqueue.options.levels import NO_OPTIONS
from pgqueue.tasks.arguments import Arguments
from pgqueue.tasks.context import JobContext
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.payload import INPUTS, POSITIONAL, encode_by_name
from pgqueue.tasks.refusals import TakesInputsError, UndecodableError


async def _anything(*args: Any, **kwargs: Any) -> Any: ...


class _AnyArguments(Arguments):
    """The arguments of an unknown task. No name means anything: its parameters may have any."""

    def decode(self, stored: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See Arguments."""
        try:
            given = from_json(stored)
        except ValueError as error:
            raise UndecodableError(str(error)) from error
        if isinstance(given, list):
            return tuple(given), {}
        if isinstance(given, dict) and isinstance(given.get(INPUTS), str):
            raise TakesInputsError(given[INPUTS])
        if not isinstance(given, dict) or not isinstance(given.get(POSITIONAL, []), list):
            raise UndecodableError("the stored arguments are neither an object nor an array")
        return tuple(given.pop(POSITIONAL, ())), given

    def prepend(self, document: str, result: str) -> str:
        """See Arguments."""
        given = from_json(document)
        del given[INPUTS]
        given[POSITIONAL] = [from_json(result), *given.get(POSITIONAL, ())]
        return to_json(given).decode()

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, limit: int) -> str:
        """See Arguments."""
        return encode_by_name("any", args, kwargs, limit=limit)


_ANY: Final = TaskDefinition("any", _anything, NO_OPTIONS)
_ANY.arguments = _AnyArguments("any", _anything, context_type=JobContext)


def any_task(name: str) -> TaskDefinition:
    """Return what stands for the unknown task *name*."""
    task = copy(_ANY)
    task.name = name
    return task
