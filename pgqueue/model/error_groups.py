"""What a group of exceptions holds, as a bounded list, without running code of the exceptions' own.

Groups hold groups, share members, and have members by the ten thousand. Their classes belong to the
application: `type(error)` cannot be overridden, `error.__class__` and `error.exceptions` can.
"""

from __future__ import annotations

from typing import Final

MAX_VISITED: Final = 100_000
"""Errors that are looked at, groups included."""
MAX_LISTED: Final = 100
"""Errors that are listed, beside the first of each further class."""
MAX_CLASSES: Final = 1_000
"""... of which so many are."""


def is_group(error: BaseException) -> bool:
    """Whether *error* is a group of exceptions."""
    return issubclass(type(error), BaseExceptionGroup)


def members(group: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions of a group, whatever its class makes of that attribute."""
    found: tuple[BaseException, ...] = BaseExceptionGroup.exceptions.__get__(group)
    return found


def leaves(error: BaseException) -> list[BaseException]:
    """Return the errors that *error* holds, in order; an error that is no group holds itself.

    Of more than MAX_LISTED, only the first of each class that is new.
    """
    if not is_group(error):
        return [error]
    found: list[BaseException] = []
    kinds: set[int] = set()
    seen = {id(error)}
    waiting = [error]
    visited = 0
    while waiting and visited < MAX_VISITED:
        each = waiting.pop()
        visited += 1
        if is_group(each):
            # A group can be in several others: two of them, nested thirty times, hold a milliard of places.
            fresh = {id(member): member for member in members(each) if id(member) not in seen}
            seen.update(fresh)
            waiting.extend(reversed(fresh.values()))
        elif len(found) < MAX_LISTED or (len(kinds) < MAX_CLASSES and id(type(each)) not in kinds):
            kinds.add(id(type(each)))
            found.append(each)
    return found


def consists_of(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether *error* is a *kind*, or a group of such alone."""
    return all(issubclass(type(each), kind) for each in leaves(error))


def contains(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether *error* is a *kind*, or a group that holds one."""
    return any(issubclass(type(each), kind) for each in leaves(error))
