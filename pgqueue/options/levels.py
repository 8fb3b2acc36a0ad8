"""The options of a job at the levels where they can be set: checked, merged, stored.

The most specific level wins: call over run time over task over queue over PgQueue. What concerns an attempt
(limits, retries) is looked up when the attempt starts, so a worker deployed with a new limit applies it to
waiting jobs; what the call itself set is stored with the job.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, ItemsView, Iterator, Mapping
from typing import Any, Final

from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import shown
from pgqueue.options.checks import MAX_PRIORITY
from pgqueue.options.table import AT, OPTIONS, RETRY_FIELDS, Level, Option, Stored
from pgqueue.options.time_limits import check_limits

_DOCUMENTED: Final = frozenset(name for name, each in OPTIONS.items() if each.stored is Stored.DOCUMENT)
_CODE: Final = frozenset(name for name, each in OPTIONS.items() if each.stored is Stored.NOWHERE)


class Options(Mapping[str, Any]):
    """The options that one level sets, or several together: checked values by name, frozen.

    One that is not set is absent; durations are seconds. `wider | nearer` merges two levels.
    """

    __slots__ = ("_values",)

    def __init__(self, /, **values: Any) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def items(self) -> ItemsView[str, Any]:
        """Return the names and the values."""
        return self._values.items()

    def __or__(self, nearer: Options) -> Options:
        # Most levels set nothing: no copy is made for those.
        if not nearer._values:
            return self
        if not self._values:
            return nearer
        return Options(**(self._values | nearer._values))

    def __hash__(self) -> int:
        # By the names alone: a value may be a dict. Equal options have the same names.
        return hash(frozenset(self._values))

    def __repr__(self) -> str:
        return f"Options({self._values!r})"

    def kind(self) -> Hashable:
        """Return what calls have in common that differ in nothing but their ids and idempotency keys."""
        return tuple(
            (name, _shared(name, value)) if name in _UNSHARED else (name, value)
            for name, value in self._values.items()
        )

    def stored(self) -> str | None:
        """Return, as JSON, what is stored with a job whose call set these options; None: nothing."""
        document = {name: value for name, value in self._values.items() if name in _DOCUMENTED}
        return json.dumps(document) if document else None


_UNSHARED: Final = frozenset({"id", "idempotency_key", "headers"})


def _shared(name: str, value: Any) -> Hashable:
    if name == "headers":
        return tuple(value.items())
    return str if name == "id" or isinstance(value, str) else value


NO_OPTIONS: Final = Options()
"""A level that sets nothing."""

_ALIASES: Final = frozenset({"reject_on_worker_lost", "at_front"})
"""Options that are kept as another one."""

DEFAULTS: Final = Options(
    **{
        name: option.check(f"the default of {name!r}", option.default)
        for name, option in OPTIONS.items()
        if name not in _ALIASES
    }
)
"""What holds if no level sets an option: merged below the others, it leaves none unset."""

MAX_LOSSES: Final[int] = DEFAULTS["max_losses"]
"""How many times a job may be lost with its worker if no level says otherwise."""


def check_options(where: str, options: Options) -> None:
    """Raise InvalidOptionError if options that were merged from several levels contradict each other."""
    if "soft_timeout" in options and "timeout" in options:
        check_limits(where, options["soft_timeout"], options["timeout"])
    if options.get("acks_late") is False and options.get("max_losses"):
        raise InvalidOptionError(
            f"{where}: acks_late=False runs a job at most once, which rules out "
            f"max_losses={options['max_losses']}; set acks_late=True as well"
        )


def retry_fields(options: Options) -> dict[str, Any]:
    """Return what *options* say about retries, by the names of RetryPolicy's fields."""
    return {RETRY_FIELDS[name]: value for name, value in options.items() if name in RETRY_FIELDS}


def read_options(where: str, given: Mapping[str, Any], level: Level) -> Options:
    """Check the options *given* at *level* and return them.

    *where* names what sets them, in errors ("task 'send_email'"). Raises InvalidOptionError.
    """
    if not given:
        return NO_OPTIONS
    if not isinstance(given, Mapping):
        raise InvalidOptionError(f"{where}: options must be a mapping of names to values, got {shown(given)}")
    allowed = AT[level]
    values = {}
    for name, value in given.items():
        option = allowed.get(name)
        if option is None:
            raise _not_allowed(where, name, level, allowed)
        values[name] = option.check(f"{where}: option {name!r}", value)
    _read_front(where, values)
    _read_losses(where, values)
    _read_waits(where, values)
    _check_hold(where, values)
    if "retry_policies" in values:
        values["retry_policies"] = {
            kind: retry_fields(
                read_options(f"{where}: option 'retry_policies': {kind.__name__}", each, Level.ERROR)
            )
            for kind, each in values["retry_policies"].items()
        }
    options = Options(**values)
    check_options(where, options)
    return options


def _not_allowed(where: str, name: str, level: Level, allowed: Mapping[str, Option]) -> InvalidOptionError:
    if level is Level.CALL and name in _CODE:
        return InvalidOptionError(
            f"{where}: option {name!r} cannot be set per call; set it on the task, its queue or the PgQueue"
        )
    return InvalidOptionError(f"{where}: unknown option {shown(name)}; allowed: {', '.join(sorted(allowed))}")


def _read_front(where: str, values: dict[str, Any]) -> None:
    """Let the front be the highest priority."""
    if values.pop("at_front", False):
        if "priority" in values:
            raise InvalidOptionError(f"{where}: both 'at_front' and 'priority' are set; set only one")
        values["priority"] = MAX_PRIORITY


def _read_losses(where: str, values: dict[str, Any]) -> None:
    """Let the options about lost workers say the same."""
    if not values.pop("reject_on_worker_lost", True):
        if values.get("max_losses"):
            raise InvalidOptionError(
                f"{where}: reject_on_worker_lost=False rules out max_losses={values['max_losses']}; set one"
            )
        values["max_losses"] = 0
    if "acks_late" in values:
        # Late again over a wider level's early: its max_losses of zero must not stay.
        values.setdefault("max_losses", MAX_LOSSES if values["acks_late"] else 0)


def _read_waits(where: str, values: dict[str, Any]) -> None:
    """Let the way of waiting that a level sets turn off those of wider levels."""
    if values.get("delay") is not None and values.get("run_at") is not None:
        raise InvalidOptionError(f"{where}: both 'delay' and 'run_at' are set; set only one")
    if values.get("retry_intervals") and values.get("retry_backoff"):
        raise InvalidOptionError(f"{where}: both 'retry_intervals' and 'retry_backoff' are set; set only one")
    if "default_retry_delay" in values or values.get("retry_intervals"):
        values.setdefault("retry_backoff", None)
    if "retry_backoff" in values:
        values.setdefault("retry_intervals", ())


def _check_hold(where: str, values: Mapping[str, Any]) -> None:
    """Refuse options of an idempotency key that contradict each other."""
    span = values.get("idempotency_while", "window")
    if span != "window" and "idempotency_window" in values:
        raise InvalidOptionError(
            f"{where}: 'idempotency_window' has no effect with idempotency_while={span!r}; set only one"
        )
    if span not in ("window", "terminal") and values.get("on_conflict") == "coalesce":
        raise InvalidOptionError(
            f"{where}: on_conflict='coalesce' holds the key until the job ends; remove 'idempotency_while'"
        )


def restore_options(stored: str) -> Options:
    """Return the options that were stored with a job, as JSON, but for those that only a newer version knows.

    Raises InvalidOptionError: another program may have written them.
    """
    try:
        document = json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise InvalidOptionError(f"the stored options are not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidOptionError(f"the stored options are not an object: {stored}")
    return read_stored(document)


def read_stored(document: Mapping[str, Any]) -> Options:
    """Return the options in a stored *document*, as `restore_options` does."""
    known = {name: value for name, value in document.items() if name in _DOCUMENTED}
    return read_options("the stored options", known, Level.RUN_TIME)
