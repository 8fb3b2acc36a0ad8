"""Limits: how many jobs of one kind run at once, or start in a time, over all workers. Values only.

A job that has limits names them, each with the key that its arguments come to. It waits, blocked, until the
database lets it through, so workers, and jobs without limits, know nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from hashlib import sha256
from inspect import iscoroutinefunction
from typing import Any, Final, Literal, TypeGuard, get_args

from pydantic_core import from_json

from pgqueue.errors import (
    ConfigurationError,
    InvalidArgumentsError,
    InvalidOptionError,
    InvalidTaskError,
)
from pgqueue.model.checks import integer, number, shown, storable, text
from pgqueue.model.rates import Rate, rate_of

WhenFull = Literal["wait", "drop", "replace"]
"""What becomes of a job that a full limit does not let through: it waits; it is cancelled; it waits, and
those that wait before it are cancelled. A job that has started once always waits."""

MAX_NAME: Final = 200
MAX_KEY: Final = 512
MAX_LIMITS: Final = 16
"""Limits of one job."""

SLOTS: Final = "queue/"
RATE: Final = "rate/"
FAIR: Final = "fair/"
"""With what the names of the limits of queues begin: then comes that of the queue."""
WINDOW: Final = 10
"""Jobs of one key of a fair queue that stand ready at most, by default."""
MAX_WINDOW: Final = 10_000

Key = str | Callable[..., object]
"""The name of an argument, or a function of the arguments."""

Redact = Callable[[dict[str, Any]], Any]
DIGEST: Final = "redacted-"
"""With what a key begins that is stored as a digest: it would show an argument that is redacted."""

Gate = tuple[str, str]
"""The name of a limit, and a key."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `slots` jobs run at once, or `rate` of them start, for each key. Made by `PgQueue.limit`."""

    name: str
    slots: int | None = None
    when_full: WhenFull = "wait"
    rate: Rate | None = None

    def by(self, key: Key) -> LimitBy:
        """Return this limit for each value of an argument, or of a function of the arguments by name.

        Raises ConfigurationError.
        """
        if not is_key(key):
            raise ConfigurationError(
                f"limit {self.name!r}: by() takes the name of an argument or a function of the arguments "
                f"that is not async, got {shown(key)}"
            )
        return LimitBy(self, key)


MAX_PLAIN: Final = 10**18
"""A whole number below this is its own JSON, and short enough for a key."""


@dataclass(frozen=True, slots=True)
class LimitBy:
    """A limit, and where its key comes from; None: it has one key for all."""

    limit: Limit
    key: Key | None = None
    redact: Redact | None = field(default=None, compare=False)
    """Returns arguments as they may be shown. None: all of them may."""

    @property
    def _what(self) -> str:
        name = self.limit.name
        return (
            f"fair_by of queue {name[len(FAIR) :]!r}"
            if name.startswith(FAIR)
            else f"the key of limit {name!r}"
        )

    def gate(self, task: str, arguments: Mapping[str, Any]) -> Gate:
        """Return what a job with these *arguments*, as JSON values, passes. Raises InvalidArgumentsError."""
        if self.key is None:
            return self.limit.name, ""
        value = self.value(task, arguments)
        return self.limit.name, self._written(task, value, arguments)

    def value(self, task: str, arguments: Mapping[str, Any]) -> object:
        """Return what the key comes to. Raises InvalidArgumentsError."""
        key = self.key
        if isinstance(key, str):
            if key not in arguments:
                raise InvalidArgumentsError(
                    task, f"{self._what} is argument {key!r}, which this call does not have"
                )
            return arguments[key]
        assert callable(key)
        try:
            return key(**arguments)
        except Exception as error:
            raise InvalidArgumentsError(task, f"{self._what} could not be computed: {error!r}") from error

    def _written(self, task: str, value: object, arguments: Mapping[str, Any]) -> str:
        if self.redact is not None and self._is_secret(task, value, arguments):
            secret = "\0".join((self.limit.name, written_key(task, self._what, value)))
            return f"{DIGEST}{sha256(secret.encode()).hexdigest()[:32]}"
        if type(value) is int and -MAX_PLAIN < value < MAX_PLAIN:
            # As JSON, without an encoder of its own: two thirds of what a key cost.
            return str(value)
        return written_key(task, self._what, value)

    def _is_secret(self, task: str, value: object, arguments: Mapping[str, Any]) -> bool:
        """Whether the key would be another one if it were made of what may be shown."""
        assert self.redact is not None
        try:
            return self.value(task, self.redact(dict(arguments))) != value
        except InvalidArgumentsError:
            # It cannot be made without what is hidden.
            return True


def gates_of(
    limits: Sequence[LimitBy], task: str, document: str, defaults: Mapping[str, object]
) -> tuple[Gate, ...]:
    """Return what a job with the arguments *document* passes, each once. Raises InvalidArgumentsError."""
    try:
        # Takes a third of the time of json.loads for each job.
        arguments = {**defaults, **from_json(document)}
    except ValueError:
        # It reads no text as deep.
        arguments = {**defaults, **json.loads(document)}
    if len(limits) == 1:
        return (limits[0].gate(task, arguments),)
    return tuple(dict.fromkeys(each.gate(task, arguments) for each in limits))


class Limits:
    """The limits of a process, by name."""

    def __init__(self) -> None:
        self._declared: dict[str, Limit] = {}

    def add(self, name: str, slots: int | None, rate: Rate | None, when_full: WhenFull) -> Limit:
        """Declare a limit. Raises ConfigurationError, also if it is declared already and differs."""
        where = f"limit {shown(name)}"
        text("the name of a limit", name, longest=MAX_NAME)
        if "/" in name or "\0" in name:
            raise ConfigurationError(f"{where}: a name must not have a '/' or NUL in it")
        if (slots is None) == (rate is None):
            raise ConfigurationError(f"{where}: pass exactly one of slots=... and rate=...")
        limit = (
            Limit(name, slots_of(where, slots), when_full)
            if rate is None
            else Limit(name, None, when_full, rate_of(where, rate))
        )
        if when_full not in get_args(WhenFull):
            raise ConfigurationError(
                f"{where}: when_full must be 'wait', 'drop' or 'replace', got {shown(when_full)}"
            )
        known = self.keep(limit)
        if known != limit:
            raise ConfigurationError(f"{where} is already declared as {known}; give both the same options")
        return known

    def keep(self, limit: Limit) -> Limit:
        """Declare *limit*; return the one that is declared by its name."""
        return self._declared.setdefault(limit.name, limit)

    def set_queue(self, queue: str, limits: Iterable[LimitBy]) -> None:
        """Declare the limits of a queue, in place of those that it had."""
        for kind in (SLOTS, RATE, FAIR):
            self._declared.pop(f"{kind}{queue}", None)
        self._declared.update((each.limit.name, each.limit) for each in limits)

    @property
    def are_declared(self) -> bool:
        """Whether this process declares any."""
        return bool(self._declared)

    def named(self, names: AbstractSet[str]) -> set[Limit]:
        """Return those of *names* that this process declares."""
        return {limit for name, limit in self._declared.items() if name in names}


def is_key(key: object) -> TypeGuard[Key]:
    """Whether keys can come from *key*: the name of an argument, or a function that returns at once."""
    if isinstance(key, str):
        return bool(key)
    return callable(key) and not (iscoroutinefunction(key) or iscoroutinefunction(type(key).__call__))


def slots_of(where: str, slots: object) -> int:
    """Return *slots* if it is a number of slots. Raises ConfigurationError."""
    return integer(f"{where}: slots", slots, least=1)


def limits_of_queue(queue: str, slots: int | None, rate: Rate | None) -> tuple[LimitBy, ...]:
    """Return what all jobs of a queue wait for, in its order. Raises InvalidOptionError."""
    where, limits = f"queue {queue!r}", []
    if slots is not None:
        limits.append(Limit(f"{SLOTS}{queue}", slots_of(where, slots)))
    if rate is not None:
        limits.append(Limit(f"{RATE}{queue}", rate=rate_of(where, rate)))
    return tuple(map(LimitBy, limits))


def fair_share(queue: str, key: object, window: object) -> LimitBy:
    """Return the windows of the keys of a fair queue. Raises InvalidOptionError."""
    where = f"queue {queue!r}"
    if not is_key(key):
        raise InvalidOptionError(
            f"{where}: fair_by must be the name of an argument or a function of the arguments that is not "
            f"async, got {shown(key)}"
        )
    size = integer(f"{where}: window", window, least=1, most=MAX_WINDOW)
    return LimitBy(Limit(f"{FAIR}{queue}", size), key)


def queue_of_window(name: str) -> str:
    """Return the fair queue whose window limit *name* is. Raises InvalidOptionError."""
    if not name.startswith(FAIR):
        raise InvalidOptionError(f"limit {shown(name)} has no weights: only keys of a fair queue do")
    return name.removeprefix(FAIR)


def weight_of(where: str, weight: object) -> float | None:
    """Return *weight* if it is one; None is the default. Raises InvalidOptionError."""
    return (
        None if weight is None else number(f"{where}: weight", weight, unit="windows", least=0.01, most=1000)
    )


def read_limits(task: str, given: Iterable[object], parameters: Iterable[str]) -> tuple[LimitBy, ...]:
    """Return the limits of a task. Raises InvalidTaskError."""
    where, known = f"task {task!r}: limits", frozenset(parameters)
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidTaskError(f"{where} must be a list of limits, got {shown(given)}")
    limits = [LimitBy(each) if isinstance(each, Limit) else each for each in given]
    if len(limits) > MAX_LIMITS:
        raise InvalidTaskError(f"{where} must be at most {MAX_LIMITS}, got {len(limits)}")
    for each in limits:
        if not isinstance(each, LimitBy):
            raise InvalidTaskError(f"{where} must be made by pgq.limit(...), got {shown(each)}")
        if each.limit.name.startswith("order/"):
            raise InvalidTaskError(f"{where} cannot have an ordered group; pass it as ordered_by=")
        if isinstance(each.key, str) and each.key not in known:
            raise InvalidTaskError(
                f"{where}: limit {each.limit.name!r} has the key {each.key!r}, which is no argument of the "
                f"task (it has: {', '.join(sorted(known)) or 'none'})"
            )
    return tuple(each for each in limits if isinstance(each, LimitBy))


def key_of(what: str, value: object) -> str:
    """Return the key in a limit that *value* comes to: a string is itself, another value its JSON.

    Raises InvalidOptionError.
    """
    key = value
    if not isinstance(key, str):
        try:
            key = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidOptionError(f"{what} must be a JSON value, got {shown(value)}") from error
    return storable(what, key, longest=MAX_KEY)


def written_key(task: str, what: str, value: object) -> str:
    """Return `key_of` *value*, of a call of *task*. Raises InvalidArgumentsError."""
    try:
        return key_of(what, value)
    except InvalidOptionError as error:
        raise InvalidArgumentsError(task, str(error)) from error
