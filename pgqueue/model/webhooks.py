"""Webhooks, as jobs name them: which task sends them, to where, and after which ends. Values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import shown
from pgqueue.model.jobs import TERMINAL, JobStatus

KEY: Final = "webhooks"
"""Among the stored options of a job."""
MAX_WEBHOOKS: Final = 16
"""Webhooks of one job."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A request that is sent when a job ends. Made by `PgQueue.webhook`; give it to the option `webhooks`."""

    task: str
    """The task whose jobs send it."""
    queue: str
    priority: int
    statuses: frozenset[JobStatus]
    """The ends that it tells of."""
    check_url: Callable[[str], object] = field(repr=False)
    """Raises ValueError for a URL that it may not be sent to."""
    url: str | None = None
    """Where to. None: to its own URL."""

    def on(self, *statuses: str) -> Webhook:
        """Return this for ends with these statuses alone, such as "failed". Raises InvalidOptionError."""
        return replace(self, statuses=read_statuses("webhook", statuses))

    def to(self, url: str) -> Webhook:
        """Return this with another URL, of an origin that its `allow` lists. Raises InvalidOptionError."""
        try:
            self.check_url(url)
        except ValueError as error:
            raise InvalidOptionError(f"webhook {self.task!r}: {error}") from None
        return replace(self, url=url)

    def document(self) -> dict[str, Any]:
        """Return it as it is stored with a job."""
        own: Mapping[str, str] = {} if self.url is None else {"url": self.url}
        lane = {"queue": self.queue, "priority": self.priority}
        return {"task": self.task, **lane, "on": sorted(self.statuses), **own}


def read_statuses(where: str, given: object) -> frozenset[JobStatus]:
    """Return the statuses of ends that *given* names. Raises InvalidOptionError."""
    if isinstance(given, str | bytes) or not isinstance(given, Sequence) or not given:
        raise InvalidOptionError(f"{where}: statuses must be a list of statuses, got {shown(given)}")
    for each in given:
        if each not in TERMINAL:
            listed = ", ".join(sorted(TERMINAL))
            raise InvalidOptionError(f"{where}: a job ends as one of {listed}; got {shown(each)}")
    return frozenset(map(JobStatus, given))


def read_webhooks(what: str, value: object) -> tuple[Webhook, ...]:
    """Return *value*, a list of webhooks. Raises InvalidOptionError."""
    if isinstance(value, Webhook):
        return (value,)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidOptionError(f"{what} must be a list of webhooks, got {shown(value)}")
    if len(value) > MAX_WEBHOOKS:
        raise InvalidOptionError(f"{what} must be at most {MAX_WEBHOOKS}, got {len(value)}")
    for each in value:
        if not isinstance(each, Webhook):
            raise InvalidOptionError(f"{what} must be made by pgq.webhook(...), got {shown(each)}")
    return tuple(dict.fromkeys(value))
