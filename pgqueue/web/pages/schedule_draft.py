"""What a form says of a schedule, and what a stored one puts into the form. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final

from starlette.exceptions import HTTPException

from pgqueue.model.schedules import Schedule
from pgqueue.schedules.definition import DAY, FIELDS, WHEN
from pgqueue.web.http.bodies import parse_json
from pgqueue.web.pages.forms import number_in

WHAT: Final = {"at": "the time", "starts_at": "the start", "ends_at": "the end"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The fields of the form, as text."""

    name: str = ""
    cron: str = ""
    every: str = ""
    at: str = ""
    timezone: str = "UTC"
    starts_at: str = ""
    ends_at: str = ""
    misfire: str = "once"
    overlap: str = "allow"
    catch_up: str = f"{DAY:g}"
    jitter: str = "0"
    tick_argument: str = ""
    task: str = ""
    arguments: str = "{}"
    queue: str = ""
    priority: str = ""
    has_call: str = ""
    """Whether an edit replaces the call. Its arguments are not shown, because they may be secret."""
    why: str = ""

    @classmethod
    def of_form(cls, form: Mapping[str, str]) -> Draft:
        """Return what was sent. Browsers end lines with CR and LF."""
        given = {each.name: form[each.name] for each in fields(cls) if each.name in form}
        draft = cls(**{name: text.strip() for name, text in given.items() if name != "name"})
        return replace(draft, name=form.get("name", ""))

    @classmethod
    def of_schedule(cls, schedule: Schedule) -> Draft:
        """Return what the form shows of a stored one."""
        shown = {name: _shown(getattr(schedule, name)) for name in FIELDS}
        return cls(
            **shown,
            name=schedule.name,
            task=schedule.task,
            queue=schedule.queue,
            priority=str(schedule.priority),
        )

    def timing(self) -> dict[str, Any]:
        """Return when it ticks, as `schedules.create` takes it. Raises HTTPException 422."""
        return {name: _READ[name](self, name) for name in FIELDS}

    def changes_of(self, before: Draft) -> dict[str, Any]:
        """Return what `schedules.edit` is to change. Raises HTTPException 422."""
        changed = {name for name in FIELDS if getattr(self, name) != getattr(before, name)}
        if changed & set(WHEN):
            changed |= set(WHEN)
        return {name: value for name, value in self.timing().items() if name in changed}

    def call(self) -> tuple[dict[str, Any] | list[Any], dict[str, Any]]:
        """Return the arguments of its call, and the options of its jobs. Raises HTTPException 422."""
        if not self.task:
            raise HTTPException(422, "name the task that it enqueues")
        arguments = parse_json(self.arguments.encode("utf-8", "surrogatepass"), "the text of the arguments")
        if not isinstance(arguments, dict | list):
            raise HTTPException(422, "the arguments must be a JSON object by name, or an array by position")
        options: dict[str, Any] = {}
        if self.queue:
            options["queue"] = self.queue
        if self.priority:
            options["priority"] = number_in({"priority": self.priority}, "priority")
        return arguments, options


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat()
        case float():
            return repr(value).removesuffix(".0")
        case _:
            return str(value)


def _text(draft: Draft, name: str) -> str:
    return str(getattr(draft, name))


def _text_or_none(draft: Draft, name: str) -> str | None:
    return getattr(draft, name) or None


def _number(draft: Draft, name: str) -> float:
    given = str(getattr(draft, name))
    try:
        return float(given)
    except ValueError:
        raise HTTPException(422, f"{name} must be a number of seconds, got {given[:40]!r}") from None


def _number_or_none(draft: Draft, name: str) -> float | None:
    return _number(draft, name) if getattr(draft, name) else None


def _time(draft: Draft, name: str) -> datetime | None:
    given = getattr(draft, name)
    if not given:
        return None
    try:
        moment = datetime.fromisoformat(given)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise HTTPException(422, f"{WHAT[name]} must be like 2026-01-31 09:00, got {given[:40]!r}") from None


_READ: Final[Mapping[str, Callable[[Draft, str], Any]]] = {
    "cron": _text_or_none,
    "every": _number_or_none,
    "at": _time,
    "timezone": _text,
    "starts_at": _time,
    "ends_at": _time,
    "misfire": _text,
    "overlap": _text,
    "catch_up": _number,
    "jitter": _number,
    "tick_argument": _text_or_none,
}
