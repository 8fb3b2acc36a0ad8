"""What a handler can say instead of returning: again later, never again, not now.

Each is raised, and none of them is an Exception: code between the handler and the worker catches `Exception`,
and must not take one for an error. Task groups (of asyncio and anyio) wrap an exception that leaves them in a
group. A group of these alone counts as one of them: a Reject, if it holds one, or else a Retry, or else a
RateLimited, or else a Snooze; the first of several, and the longest Snooze. A group that holds other errors
too is an error like any other, because those errors would be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import Duration, aware_time, retry_limit, some_seconds
from pgqueue.model.error_groups import leaves
from pgqueue.model.outcomes import Suspended
from pgqueue.model.unset import UNSET, Unset
from pgqueue.retry.retry_after import seconds_of, time_of


class ControlFlow(BaseException):
    """Base of the signals that a handler raises to say how its job continues. Not a failure."""


class Retry(ControlFlow):  # what the handler says, not an error
    """Run the job again later; the attempt counts. Raised by `ctx.retry(...)`, which says what each means.

    Raises InvalidOptionError for an invalid delay, time or limit.
    """

    def __init__(
        self,
        exc: BaseException | None = None,
        *,
        countdown: Duration | None = None,
        eta: datetime | None = None,
        max_retries: int | None | Unset = UNSET,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if countdown is not None and eta is not None:
            raise InvalidOptionError("retry: 'countdown' and 'eta' cannot be combined; pass one of them")
        if exc is not None and not isinstance(exc, BaseException):
            raise InvalidOptionError(f"retry: 'exc' must be an exception, got {exc!r}")
        self.exc = exc
        self.countdown = None if countdown is None else some_seconds("retry: 'countdown'", countdown)
        self.eta = None if eta is None else aware_time("retry: 'eta'", eta)
        self.max_retries = (
            max_retries if max_retries is UNSET else retry_limit("retry: 'max_retries'", max_retries)
        )
        self.args_given = None if args is None else tuple(args)
        self.kwargs_given = None if kwargs is None else dict(kwargs)
        super().__init__("run again later")

    @property
    def call(self) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The positional and named arguments that replace the job's; None: it keeps its own."""
        if self.args_given is None and self.kwargs_given is None:
            return None
        return self.args_given or (), self.kwargs_given or {}


class Reject(ControlFlow):  # what the handler says, not an error
    """The job has failed permanently: it is not retried, even if it has retries left. *reason* is stored."""

    def __init__(self, reason: str) -> None:
        self.reason = str(reason)
        super().__init__(self.reason)


class Snooze(ControlFlow):  # what the handler says, not an error
    """Run the job again after *delay* (seconds or a timedelta). This attempt does not count.

    There is no limit on snoozes. Make sure that the job ends even if what it waits for never happens. Raises
    InvalidOptionError.
    """

    until: datetime | None = None
    """The job does not run again before this time either."""

    def __init__(self, delay: Duration) -> None:
        self.delay = some_seconds("snooze: the delay", delay)
        super().__init__(f"not for {self.delay:g} s")


class RateLimited(Snooze):
    """Run the job again after *retry_after*: a service has refused it for now. This attempt does not count.

    The limits by rate that the job has passed let no job through before then. Without any it is a Snooze.

    *retry_after*: what a service says, such as `response.headers.get("Retry-After")`: seconds, also as a
    string, a timedelta, a time zone-aware datetime, or an HTTP date. A time in the past is now; more than 7
    days count as 7 days; None, because the service does not say, is 10 seconds. Raises InvalidOptionError
    for anything else.
    """

    def __init__(self, retry_after: Duration | datetime | str | None = None) -> None:
        self.until = time_of(retry_after)
        super().__init__(0 if self.until is not None else seconds_of(retry_after))


class Suspend(ControlFlow):  # what the handler says, not an error
    """Have the job wait. Raised by `ctx.sleep` and what waits like it, and never by handlers themselves.

    Let it pass: whatever a handler does after it, its job waits.
    """

    def __init__(self, wait: Suspended) -> None:
        self.wait = wait
        super().__init__("the job waits, and its handler begins anew when the wait is over")


class Restart(ControlFlow):  # what the handler says, not an error
    """Have the job begin anew with another call. Raised by `ctx.restart(...)`."""

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.call = args, dict(kwargs)
        super().__init__("begin anew")


def control_flow_of(error: BaseException) -> ControlFlow | None:
    """Return the signal that *error* is, or that a group of signals alone counts as; None: it is an error.

    Cancellations in the group are what the signals made of their siblings.
    """
    errors = [each for each in leaves(error) if not issubclass(type(each), asyncio.CancelledError)]
    if not errors or not all(issubclass(type(each), ControlFlow) for each in errors):
        return None
    for kind in (Reject, Retry, RateLimited):
        for each in errors:
            if issubclass(type(each), kind):
                return cast(ControlFlow, each)
    snoozes = [each for each in errors if isinstance(each, Snooze)]
    return max(snoozes, key=lambda snooze: snooze.delay) if snoozes else cast(ControlFlow, errors[0])
