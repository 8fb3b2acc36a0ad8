"""What a schedule is: checked when it is declared, created or edited, and read back when it ticks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from pgqueue.enqueueing.calls import CallReader
from pgqueue.errors import InvalidArgumentsError, InvalidOptionError
from pgqueue.model.checks import MAX_TASK_LENGTH, one_of, shown, some_seconds, text
from pgqueue.model.schedules import Schedule
from pgqueue.schedules.gates import tick_gates
from pgqueue.schedules.rule import Rule
from pgqueue.schedules.ticks import MISFIRES, OVERLAPS
from pgqueue.store import Template
from pgqueue.tasks.signature import Signature

MAX_NAME: Final = 200
DAY: Final = 24 * 3600.0
WHEN: Final = ("cron", "every", "at")
FIELDS: Final = (
    *WHEN,
    "timezone",
    "starts_at",
    "ends_at",
    "misfire",
    "overlap",
    "catch_up",
    "jitter",
    "tick_argument",
)
"""What a caller may set, apart from the name and the call."""
RULE: Final = (*WHEN, "timezone", "starts_at", "ends_at")
_REFUSED: Final = ("id", "run_at", "depends_on", "idempotency_key")
_SAMPLE: Final = datetime(2026, 1, 1, tzinfo=UTC)
_OTHER: Final = datetime(1987, 11, 22, 13, 45, 56, 789, tzinfo=UTC)
"""A tick that has nothing in common with that."""


def check_name(name: object) -> str:
    """Return *name* if a schedule may have it. Raises InvalidOptionError."""
    return text("the name of a schedule", name, longest=MAX_NAME)


def what_of(name: str) -> str:
    """Return what errors call a schedule."""
    return f"schedule {shown(name)}"


def document_of(reader: CallReader, name: object, call: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row, as JSON values, of a schedule that enqueues *call*.

    Raises InvalidOptionError, InvalidArgumentsError, PayloadTooLargeError, ConfigurationError.
    """
    name = check_name(name)
    what = what_of(name)
    timing = timing_of(what, given)
    if not isinstance(call, Signature):
        raise InvalidOptionError(f"{what}: pass a call such as task.s(...), got {shown(call)}")
    read = reader.read(call)
    for option in _REFUSED:
        if option in call.options:
            raise InvalidOptionError(f"{what}: its jobs cannot have option {option!r}")
    if read.key_rule is not None:
        raise InvalidOptionError(f"{what}: its jobs cannot have an idempotency key; use overlap=")
    argument = timing["tick_argument"]
    arguments, documents = _arguments(reader, call, argument)
    template = _stored(read.template)
    if read.limits:
        defaults = {} if call.definition is None else call.definition.arguments.defaults
        template["gates"] = tick_gates(what, call.task, read.limits, documents, defaults, argument)
    return {
        "name": name,
        "task": call.task,
        "arguments": arguments,
        "template": json.dumps(template),
        **timing,
    }


def timing_of(what: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check all but the call of a schedule; return it as JSON values. Raises InvalidOptionError."""
    rule = Rule.read(what, given)
    argument = given.get("tick_argument")
    return {
        "cron": rule.cron,
        "every": rule.every,
        "at": _time(rule.at),
        "timezone": rule.timezone,
        "starts_at": _time(rule.starts_at),
        "ends_at": _time(rule.ends_at),
        "misfire": one_of(f"{what}: misfire", given.get("misfire", "once"), MISFIRES),
        "overlap": one_of(f"{what}: overlap", given.get("overlap", "allow"), OVERLAPS),
        "catch_up": some_seconds(f"{what}: catch_up", given.get("catch_up", DAY)),
        "jitter": some_seconds(f"{what}: jitter", given.get("jitter", 0.0)),
        "tick_argument": None if argument is None else text(f"{what}: tick_argument", argument),
    }


def first_tick(what: str, document: Mapping[str, Any], now: datetime, *, is_needed: bool) -> str | None:
    """Return the first tick after *now*. Raises InvalidOptionError if one *is_needed* and there is none."""
    rule = Rule.read(
        what, {**document} | {name: _read_time(document[name]) for name in ("at", "starts_at", "ends_at")}
    )
    tick = rule.next_after(now)
    if tick is None and is_needed:
        raise InvalidOptionError(
            f"{what} would never tick: its time has passed, or ends before its first tick"
        )
    return _time(tick)


def timing_as_given(schedule: Schedule) -> dict[str, Any]:
    """Return what a stored schedule was given, to be edited, or to be checked anew."""
    return {name: getattr(schedule, name) for name in FIELDS}


def template_of(task: str, stored: str) -> Template:
    """Return the template of the jobs that a stored schedule makes. Raises InvalidOptionError, ValueError."""
    given = json.loads(stored)
    if not isinstance(given, dict):
        raise InvalidOptionError("the stored template is not an object")
    queue, priority = given.get("queue"), given.get("priority")
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise InvalidOptionError(f"the stored priority is {shown(priority)}")
    template = Template(
        lane=(text("the stored queue", queue), priority),
        task=text("the stored task", task, longest=MAX_TASK_LENGTH),
        delay=_number(given.get("delay")),
        expires_after=_number(given.get("expires_after")),
        options=_text(given.get("options")),
        headers=_text(given.get("headers")),
        tags=_text(given.get("tags")),
        key=_text(given.get("key")),
    )
    expires_at = given.get("expires_at")
    return (
        template if expires_at is None else replace(template, expires_at=datetime.fromisoformat(expires_at))
    )


def with_tick(document: str, argument: str, tick: datetime) -> str:
    """Return arguments with the tick's time in one of them."""
    # Put in as text: numbers that Python writes differently stay as they were.
    rest = document.strip()[1:].lstrip()
    head = f"{{{json.dumps(argument)}: {json.dumps(tick.isoformat())}"
    return f"{head}}}" if rest.startswith("}") else f"{head}, {rest}"


def _arguments(reader: CallReader, call: Signature[Any], argument: str | None) -> tuple[str, tuple[str, str]]:
    """Return the arguments without the tick's time as they are stored, and plain ones of two ticks."""
    if argument is None:
        document = reader.encode(call)
        return reader.stored(document), (document, document)
    if argument in call.kwargs:
        raise InvalidOptionError(f"tick_argument: {argument!r} has a value already")
    try:
        document = reader.encode(replace(call, kwargs={**call.kwargs, argument: _SAMPLE}))
    except InvalidArgumentsError:
        document = reader.encode(replace(call, kwargs={**call.kwargs, argument: _SAMPLE.isoformat()}))
    arguments = json.loads(document)
    arguments.pop(argument, None)
    rest = json.dumps(arguments)
    return reader.stored(rest), (
        with_tick(rest, argument, _SAMPLE),
        with_tick(rest, argument, _OTHER),
    )


def _stored(template: Template) -> dict[str, Any]:
    queue, priority = template.lane
    values = {
        "queue": queue,
        "priority": priority,
        "delay": template.delay,
        "expires_at": _time(template.expires_at),
        "expires_after": template.expires_after,
        "options": template.options,
        "headers": template.headers,
        "tags": template.tags,
        "key": template.key,
    }
    return {name: value for name, value in values.items() if value is not None}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _read_time(stored: str | None) -> datetime | None:
    return None if stored is None else datetime.fromisoformat(stored)


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidOptionError(f"the stored template has {shown(value)} for a string")
    return value


def _number(value: object) -> float | None:
    if value is None:
        return None
    return some_seconds("a stored time", value)
