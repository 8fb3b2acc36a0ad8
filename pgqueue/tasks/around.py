"""What an integration puts around parts of a job, by context variables: only the jobs that have them pay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

AroundStep = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Calls its second argument, which runs the step that the first one names, and returns what that returns."""

around_step: Final[ContextVar[AroundStep | None]] = ContextVar("pgqueue_around_step", default=None)
"""What is around each durable step of the running job that runs, and is not read from the store."""
workflow_headers: Final[ContextVar[Mapping[str, str] | None]] = ContextVar(
    "pgqueue_workflow_headers", default=None
)
"""Headers for each job of a workflow that is enqueued here, and has none of the same names."""
