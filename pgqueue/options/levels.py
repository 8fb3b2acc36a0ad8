"""The options of a job, at the four levels where they can be set: the call, the task, the queue, the PgQueue.

The nearer level wins: call over task over queue over global. What concerns an attempt (limits, retries)
is looked up when the attempt starts, so a worker deployed with a new limit applies it to waiting jobs;
what the call itself set is stored with the job.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, Literal
from uuid import UUID

from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import count, flag, positive_seconds, retry_limit, some_seconds
from pgqueue.model.unset import UNSET, Unset
from pgqueue.options import checks
from pgqueue.options.checks import FromArguments, OnConflict, Span
from pgqueue.options.declared import AttemptOptions, CallOptions, JobOptions, RetryOptions, TaskOptions
from pgqueue.options.time_limits import DEFAULT_HARD, DEFAULT_SOFT, check_limits
from pgqueue.retry.policy import Jitter, RetryWhen

IDEMPOTENCY_WINDOW: Final = 24 * 60 * 60.0
"""Seconds for which an idempotency key is held where nothing else is said."""
MAX_LOSSES: Final = 3
"""How often a job may be lost with its worker where nothing else is said."""


_STORED: Final = frozenset(AttemptOptions.__annotations__)
_CODE: Final = TaskOptions.__annotations__.keys() - JobOptions.__annotations__.keys()


@dataclass(frozen=True, slots=True)
class Options:
    """One level's options, checked. Unset ones are UNSET; durations are seconds."""

    queue: str | Unset = UNSET
    priority: int | Unset = UNSET
    delay: float | None | Unset = UNSET
    run_at: datetime | None | Unset = UNSET
    expires: float | datetime | None | Unset = UNSET
    id: UUID | None | Unset = UNSET
    on_duplicate: Literal["return", "raise"] | Unset = UNSET
    tags: tuple[str, ...] | Unset = UNSET
    key: str | None | Unset = UNSET
    headers: Mapping[str, str] | Unset = UNSET
    idempotency_key: str | FromArguments | None | Unset = UNSET
    idempotency_window: float | None | Unset = UNSET
    idempotency_scope: str | Unset = UNSET
    idempotency_while: Span | Unset = UNSET
    on_conflict: OnConflict | Unset = UNSET
    idempotency_fingerprint: bool | Unset = UNSET
    soft_timeout: float | None | Unset = UNSET
    timeout: float | None | Unset = UNSET
    retry_on_timeout: bool | Unset = UNSET
    max_retries: int | None | Unset = UNSET
    max_retry_duration: float | None | Unset = UNSET
    retry_backoff: float | None | Unset = UNSET
    retry_backoff_max: float | Unset = UNSET
    retry_jitter: Jitter | Unset = UNSET
    retry_delay_min: float | Unset = UNSET
    default_retry_delay: float | Unset = UNSET
    retry_intervals: tuple[float, ...] | Unset = UNSET
    max_losses: int | Unset = UNSET
    acks_late: bool | Unset = UNSET
    ignore_result: bool | Unset = UNSET
    autoretry_for: tuple[type[BaseException], ...] | Unset = UNSET
    dont_autoretry_for: tuple[type[BaseException], ...] | Unset = UNSET
    throws: tuple[type[BaseException], ...] | Unset = UNSET
    retry_when: RetryWhen | None | Unset = UNSET
    retry_policies: Mapping[type[BaseException], Mapping[str, Any]] | Unset = UNSET
    redact: tuple[str, ...] | Unset = UNSET
    log: float | Unset = UNSET

    def over(self, wider: Options) -> Options:
        """Return these options where they are set, and those of the *wider* level elsewhere."""
        if wider is NO_OPTIONS:
            return self
        if self is NO_OPTIONS:
            return wider
        return Options(
            *[
                wide if near is UNSET else near
                for near, wide in zip(_all_of(self), _all_of(wider), strict=True)
            ]
        )

    def kind(self) -> Hashable:
        """Return what calls have in common that differ in nothing but their ids and idempotency keys."""
        key = self.idempotency_key
        headers = None if isinstance(self.headers, Unset) else tuple(self.headers.items())
        return _shared_of(self), str if isinstance(key, str) else key, headers

    def stored(self) -> str | None:
        """Return, as JSON, what is stored with a job whose call set these options; None: nothing."""
        stored = {name: getattr(self, name) for name in _NAMES if name in _STORED}
        set_here = {name: value for name, value in stored.items() if value is not UNSET}
        return json.dumps(set_here) if set_here else None


NO_OPTIONS: Final = Options()
"""A level that sets nothing."""

_NAMES: Final = tuple(each.name for each in fields(Options))
_all_of: Final = attrgetter(*_NAMES)
_shared_of: Final = attrgetter(
    # The policies are code, which a call cannot set.
    *(name for name in _NAMES if name not in ("id", "idempotency_key", "headers", "retry_policies"))
)

DEFAULTS: Final = Options(
    queue="default",
    priority=0,
    delay=None,
    run_at=None,
    expires=None,
    id=None,
    on_duplicate="return",
    tags=(),
    key=None,
    headers={},
    idempotency_key=None,
    idempotency_window=IDEMPOTENCY_WINDOW,
    idempotency_scope="task",
    idempotency_while="window",
    on_conflict="return",
    idempotency_fingerprint=True,
    soft_timeout=DEFAULT_SOFT,
    timeout=DEFAULT_HARD,
    retry_on_timeout=True,
    max_retries=3,
    max_retry_duration=None,
    retry_backoff=1.0,
    retry_backoff_max=600.0,
    retry_jitter="full",
    retry_delay_min=0.0,
    default_retry_delay=60.0,
    retry_intervals=(),
    max_losses=MAX_LOSSES,
    acks_late=True,
    ignore_result=False,
    autoretry_for=(Exception, asyncio.CancelledError),
    dont_autoretry_for=(),
    throws=(),
    retry_when=None,
    retry_policies={},
    redact=(),
    log=1.0,
)
"""What holds where no level says otherwise."""


_RETRY_FIELDS: Final = {
    "max_retries": "max_retries",
    "max_retry_duration": "max_duration",
    "retry_backoff": "backoff",
    "retry_backoff_max": "backoff_max",
    "retry_jitter": "jitter",
    "retry_delay_min": "delay_min",
    "default_retry_delay": "default_delay",
    "retry_intervals": "intervals",
    "autoretry_for": "autoretry_for",
    "dont_autoretry_for": "dont_autoretry_for",
    "throws": "throws",
    "retry_when": "retry_when",
    "retry_policies": "policies",
}
"""What the RetryPolicy calls its options."""


def check_options(where: str, options: Options) -> None:
    """Raise InvalidOptionError if options that were merged from several levels cannot hold together."""
    soft, hard = options.soft_timeout, options.timeout
    if not isinstance(soft, Unset) and not isinstance(hard, Unset):
        check_limits(where, soft, hard)
    if options.acks_late is False and options.max_losses is not UNSET and options.max_losses != 0:
        raise InvalidOptionError(
            f"{where}: acks_late=False allows no loss, and max_losses allows {options.max_losses}; "
            "set acks_late=True beside max_losses"
        )


def _retry_fields(options: Options) -> dict[str, Any]:
    """Return what *options* say of retries, by the names of RetryPolicy."""
    values = {each: getattr(options, name) for name, each in _RETRY_FIELDS.items()}
    return {each: value for each, value in values.items() if value is not UNSET}


def read_options(where: str, given: Mapping[str, Any], allowed: type) -> Options:
    """Check the options *given* at one level and return them.

    *where* names the level in errors ("task 'send_email'"); *allowed* is the TypedDict of its options.
    Raises InvalidOptionError.
    """
    for name in given:
        if allowed is CallOptions and name in _CODE:
            raise InvalidOptionError(
                f"{where}: option {name!r} is not stored with a job: set it for the task, its queue or the "
                "PgQueue"
            )
        if name not in allowed.__annotations__ and name not in getattr(allowed, "__optional_keys__", ()):
            known = ", ".join(sorted(allowed.__optional_keys__))  # type: ignore[attr-defined]  # a TypedDict
            raise InvalidOptionError(f"{where}: there is no option {name!r}; the options are {known}")
    values = {name: _CHECKS[name](f"{where}: option {name!r}", value) for name, value in given.items()}
    if "reject_on_worker_lost" in values:
        requeue = values.pop("reject_on_worker_lost")
        if not requeue:
            if values.get("max_losses"):
                raise InvalidOptionError(
                    f"{where}: reject_on_worker_lost=False allows no loss, and max_losses allows some"
                )
            values["max_losses"] = 0
    if "acks_late" in values:
        # Late again over a wider level's early: its max_losses of zero must not stay.
        values.setdefault("max_losses", MAX_LOSSES if values["acks_late"] else 0)
    if values.get("delay") is not None and values.get("run_at") is not None:
        raise InvalidOptionError(f"{where}: both 'delay' and 'run_at' are set; set one")
    _settle_backoff(where, values)
    _check_hold(where, values)
    options = Options(**values)
    check_options(where, options)
    return options


def _check_hold(where: str, values: Mapping[str, Any]) -> None:
    """Refuse options of an idempotency key that contradict each other."""
    span = values.get("idempotency_while", "window")
    if span != "window" and "idempotency_window" in values:
        raise InvalidOptionError(
            f"{where}: an 'idempotency_window' ends nothing where 'idempotency_while' is {span!r}; set one"
        )
    if span not in ("window", "terminal") and values.get("on_conflict") == "coalesce":
        raise InvalidOptionError(
            f"{where}: 'coalesce' holds the key until the job is over; leave 'idempotency_while' out"
        )


def _settle_backoff(where: str, values: dict[str, Any]) -> None:
    """Let the way of waiting that a level sets turn off those of wider levels."""
    if values.get("retry_intervals") and values.get("retry_backoff"):
        raise InvalidOptionError(f"{where}: both 'retry_intervals' and 'retry_backoff' are set; set one")
    if "default_retry_delay" in values or values.get("retry_intervals"):
        values.setdefault("retry_backoff", None)
    if "retry_backoff" in values:
        values.setdefault("retry_intervals", ())


def restore_options(stored: str) -> Options:
    """Return the options that were stored with a job, as JSON, but for those that only a newer version knows.

    Raises InvalidOptionError: somebody else's program may have written them.
    """
    try:
        options = json.loads(stored)
    except ValueError as error:
        raise InvalidOptionError(f"the stored options are not JSON: {error}") from error
    if not isinstance(options, dict):
        raise InvalidOptionError(f"the stored options are not an object: {stored}")
    known = {name: value for name, value in options.items() if name in _STORED}
    return read_options("the stored options", known, AttemptOptions)


def _retry_policies(what: str, value: object) -> dict[type[BaseException], dict[str, Any]]:
    if not isinstance(value, Mapping):
        raise InvalidOptionError(f"{what} is {value!r}: give a mapping of exception classes to retry options")
    policies = {}
    for kind, options in value.items():
        [checked] = checks.error_types(what, (kind,))
        if not isinstance(options, Mapping):
            raise InvalidOptionError(f"{what}: {kind.__name__} has {options!r}: give a mapping of options")
        policies[checked] = _retry_fields(read_options(f"{what}: {kind.__name__}", options, RetryOptions))
    return policies


_CHECKS: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "queue": checks.queue,
    "priority": checks.priority,
    "delay": checks.delay,
    "run_at": checks.run_at,
    "expires": checks.expires,
    "id": checks.job_id,
    "on_duplicate": checks.on_duplicate,
    "tags": checks.tags,
    "key": checks.key,
    "headers": checks.headers,
    "idempotency_key": checks.idempotency_key,
    "idempotency_window": checks.idempotency_window,
    "idempotency_scope": checks.idempotency_scope,
    "idempotency_while": checks.idempotency_while,
    "on_conflict": checks.on_conflict,
    "idempotency_fingerprint": flag,
    "soft_timeout": checks.timeout,
    "timeout": checks.timeout,
    "retry_on_timeout": flag,
    "max_retries": retry_limit,
    "max_retry_duration": checks.max_retry_duration,
    "retry_backoff": checks.retry_backoff,
    "retry_backoff_max": positive_seconds,
    "retry_jitter": checks.retry_jitter,
    "retry_delay_min": some_seconds,
    "default_retry_delay": some_seconds,
    "retry_intervals": checks.retry_intervals,
    "autoretry_for": checks.error_types,
    "dont_autoretry_for": checks.error_types,
    "throws": checks.error_types,
    "retry_when": checks.retry_when,
    "retry_policies": _retry_policies,
    "redact": checks.paths,
    "log": checks.log_share,
    "max_losses": count,
    "reject_on_worker_lost": flag,
    "acks_late": flag,
    "ignore_result": flag,
}
