"""A call of a task, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pgqueue.options.levels import NO_OPTIONS, Options
from pgqueue.tasks.definition import TaskDefinition

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Signature(Generic[R_co]):
    """A call of a task, to enqueue later: alone or with others."""

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: Options = NO_OPTIONS
    definition: TaskDefinition | None = field(default=None, repr=False)
    """None: this process only knows the task's name; the worker validates the arguments."""
