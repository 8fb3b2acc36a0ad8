"""Ordered groups: jobs of one key run one at a time, in the order in which they were enqueued. Values only.

A group is a limit of one slot that comes before all others of a job, and that a job keeps until it has ended:
also while it waits to be retried. So nothing overtakes it, and nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from pgqueue.errors import ConfigurationError, InvalidArgumentsError, InvalidTaskError
from pgqueue.flow.limits import MAX_KEY, Gate, Key, Limit, LimitBy, Limits, is_key, written_key
from pgqueue.model.checks import shown, text

OnDead = Literal["block", "skip", "halt"]
"""What becomes of the jobs behind one that has failed or expired: they wait until it was redriven or
discarded; they go on; they wait until an operator resumes their key."""

PREFIX: Final = "order/"
MAX_NAME: Final = 255


@dataclass(frozen=True, slots=True)
class Ordered(Limit):
    """A group whose jobs run one at a time and in order, for each key. Made by `PgQueue.ordered`."""

    on_dead: OnDead = "block"

    @property
    def group(self) -> str:
        """Its name, as it was declared."""
        return self.name.removeprefix(PREFIX)

    def by(self, key: Key) -> OrderedBy:
        """Return this group with a line for each value of an argument, or of a function of the arguments.

        Raises ConfigurationError.
        """
        if not is_key(key):
            raise ConfigurationError(
                f"ordered group {self.group!r}: by() takes the name of an argument or a function of the "
                f"arguments that is not async, got {shown(key)}"
            )
        return OrderedBy(self, key)


@dataclass(frozen=True, slots=True)
class OrderedBy(LimitBy):
    """An ordered group, and where its key comes from; None: all its jobs are in one line."""

    @property
    def _what(self) -> str:
        return f"the key of ordered group {self.limit.name.removeprefix(PREFIX)!r}"

    def gate(self, task: str, arguments: Mapping[str, Any]) -> Gate:
        """Return the line of a job with these *arguments*, as JSON values. Raises InvalidArgumentsError."""
        if self.key is None:
            return self.limit.name, ""
        value = self.value(task, arguments)
        if value is None:
            raise InvalidArgumentsError(
                task, f"{self._what} must not be None: each job needs a line to stand in"
            )
        return self.limit.name, self._written(task, value, arguments)


def ordered(limits: Limits, name: str, on_dead: OnDead) -> Ordered:
    """Declare an ordered group. Raises ConfigurationError, also if it is declared already and differs."""
    where = f"ordered group {shown(name)}"
    text("the name of an ordered group", name, longest=MAX_NAME)
    if "\0" in name:
        raise ConfigurationError(f"{where}: a name must not have NUL in it")
    if on_dead not in get_args(OnDead):
        raise ConfigurationError(f"{where}: on_dead must be 'block', 'skip' or 'halt', got {shown(on_dead)}")
    group = Ordered(f"{PREFIX}{name}", 1, "wait", on_dead=on_dead)
    known = limits.keep(group)
    if known != group:
        assert isinstance(known, Ordered)
        raise ConfigurationError(
            f"{where} is already declared with on_dead={known.on_dead!r}, got {on_dead!r}; give both the same"
        )
    return group


def read_ordered(
    limits: Limits, task: str, given: object, on_dead: OnDead | None, parameters: Iterable[str]
) -> OrderedBy | None:
    """Return the line of a task's jobs. Raises InvalidTaskError, ConfigurationError."""
    where, known = f"task {task!r}: ordered_by", frozenset(parameters)
    if given is None:
        if on_dead is not None:
            raise InvalidTaskError(f"task {task!r}: on_dead has no effect without ordered_by")
        return None
    if isinstance(given, Ordered | OrderedBy):
        if on_dead is not None:
            raise InvalidTaskError(
                f"task {task!r}: pass on_dead={on_dead!r} to pgq.ordered(...): all tasks of a group share it"
            )
        line = OrderedBy(given) if isinstance(given, Ordered) else given
    elif is_key(given):
        # Not before the key is known to be right: a task that is refused declares nothing.
        _check_key(where, given, known)
        return ordered(limits, task, "block" if on_dead is None else on_dead).by(given)
    else:
        raise InvalidTaskError(
            f"{where} must be the name of an argument, a function of the arguments that is not async, or "
            f"pgq.ordered(...), got {shown(given)}"
        )
    _check_key(where, line.key, known)
    return line


def stored_key(name: str, key: object) -> str:
    """Return how *key* of group *name* is stored. Raises ConfigurationError."""
    try:
        found = written_key(name, f"the key of ordered group {name!r}", key)
    except InvalidArgumentsError as error:
        raise ConfigurationError(f"the key of ordered group {name!r} must be a JSON value") from error
    return text("the key of an ordered group", found, longest=MAX_KEY) if found else found


def _check_key(where: str, key: object, known: frozenset[str]) -> None:
    if isinstance(key, str) and key not in known:
        raise InvalidTaskError(
            f"{where} is {key!r}, which is no argument of the task (it has: "
            f"{', '.join(sorted(known)) or 'none'})"
        )
