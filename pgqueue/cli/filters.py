"""The options by which commands select jobs and dead letters, declared once for all commands."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from pgqueue import DeadLetterFilter, JobFilter, JobStatus
from pgqueue.cli.parameters import in_utc

Command = Callable[..., None]

EVERY_JOB: Final = JobFilter()
EVERY_LETTER: Final = DeadLetterFilter()

OfTask = Annotated[str | None, typer.Option("--task", help="Only this task.")]
OfQueue = Annotated[str | None, typer.Option("--queue", help="Only this queue.")]
OfReason = Annotated[
    str | None, typer.Option("--reason", help="Only failures with this reason code, e.g. exception.")
]
OfErrorType = Annotated[
    str | None, typer.Option("--error-type", help="Only failures with this error type, e.g. ValueError.")
]

JOB_OPTIONS: Final[Mapping[str, Any]] = {
    "status": Annotated[
        list[JobStatus] | None,
        typer.Option("--status", help="Only jobs with this status; may be given more than once."),
    ],
    "task": OfTask,
    "queue": OfQueue,
    "tag": Annotated[str | None, typer.Option("--tag", help="Only jobs with this tag.")],
    "key": Annotated[str | None, typer.Option("--key", help="Only jobs with this key.")],
    "created_after": Annotated[
        datetime | None, typer.Option("--created-after", help="Enqueued at or after this time (UTC).")
    ],
    "created_before": Annotated[
        datetime | None, typer.Option("--created-before", help="Enqueued before this time (UTC).")
    ],
    "finished_after": Annotated[
        datetime | None, typer.Option("--finished-after", help="Ended at or after this time (UTC).")
    ],
    "finished_before": Annotated[
        datetime | None, typer.Option("--finished-before", help="Ended before this time (UTC).")
    ],
    "search": Annotated[
        str | None, typer.Option("--search", help="Only jobs with this text in their arguments.")
    ],
}
LETTER_OPTIONS: Final[Mapping[str, Any]] = {
    "task": OfTask,
    "queue": OfQueue,
    "reason": OfReason,
    "fingerprint": Annotated[
        str | None, typer.Option("--fingerprint", help="Only this group of similar failures.")
    ],
    "error_type": OfErrorType,
    "failed_after": Annotated[
        datetime | None, typer.Option("--failed-after", help="Failed at or after this time (UTC).")
    ],
    "failed_before": Annotated[
        datetime | None, typer.Option("--failed-before", help="Failed before this time (UTC).")
    ],
}


def selects_jobs(command: Command) -> Command:
    """Give *command* the options of a JobFilter, in the place of its parameter `chosen`."""
    return _with_options(command, JOB_OPTIONS, JobFilter.of)


def selects_letters(command: Command) -> Command:
    """Give *command* the options of a DeadLetterFilter, in the place of its parameter `chosen`."""
    return _with_options(command, LETTER_OPTIONS, DeadLetterFilter)


def _with_options(command: Command, options: Mapping[str, Any], make: Callable[..., Any]) -> Command:
    @functools.wraps(command)
    def with_filter(**given: Any) -> None:
        criteria = {name: _as_criterion(given.pop(name)) for name in options}
        command(**given, chosen=make(**criteria))

    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name == "chosen":
            parameters += [
                inspect.Parameter(name, parameter.kind, default=None, annotation=annotation)
                for name, annotation in options.items()
            ]
        else:
            parameters.append(parameter)
    # Typer makes the command line from these.
    with_filter.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # inspect's
    with_filter.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_filter


def _as_criterion(given: Any) -> Any:
    if isinstance(given, datetime):
        return in_utc(given)
    # An option that can be repeated is an empty list if it is not given. An empty string is refused later.
    return None if given == [] else given
