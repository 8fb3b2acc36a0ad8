"""What pydantic's errors say, without the values that they are about: they may be secret."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

HIDDEN: Final = "[redacted]"
SHORTEST: Final = 3
"""Characters of a value that is looked for in a message. Shorter ones are parts of too many words."""
MOST: Final = 1000
"""Values within one input that are looked for."""
MOST_TOLD: Final = 100
"""Faults of one value that are told one by one. To list 50,000 takes a second, in which nothing else runs."""
MAX_VISITED: Final = 10_000
"""... and those that are visited."""
MAX_MESSAGE: Final = 10_000
"""Characters of a message that are looked through and shown."""
EXTRA: Final = ("extra_forbidden", "unexpected_keyword_argument", "unexpected_positional_argument")
"""Types of errors whose place is a name that the sender chose."""


def without_values(
    errors: Iterable[Mapping[str, Any]], *, names_extra: bool
) -> list[tuple[tuple[Any, ...], str]]:
    """Return the place and the message of each of pydantic's *errors*.

    A message may repeat its input: the tag of a union, or what a validator of the task's own says.
    *names_extra*: whether to name surplus arguments, which only their sender should read.
    """
    found = []
    for each in errors:
        place, message = tuple(each["loc"]), str(each["msg"])
        if len(message) > MAX_MESSAGE:
            # Cut, it could end within a value, which would not be found.
            message = f"{each['type']}, with a message of {len(message):,} characters"
        for value in sorted(set(islice(_texts_in(each.get("input")), MOST)), key=len, reverse=True):
            if value in message:
                message = message.replace(value, HIDDEN)
        if each["type"] in EXTRA and not names_extra and place:
            place = (*place[:-1], HIDDEN)
        found.append((place, message))
    return found


def _texts_in(value: Any) -> Iterator[str]:
    """Yield the texts and numbers in *value*, as messages would write them."""
    left = [value]
    for _ in range(MAX_VISITED):
        if not left:
            return
        match left.pop():
            case str() as text if len(text) >= SHORTEST:
                yield text
            case dict() as mapping:
                left += islice(mapping.values(), MOST)
            case list() | tuple() as sequence:
                left += islice(sequence, MOST)
            case int() | float() as number if len(written := str(number)) > SHORTEST:
                yield written
            case _:
                pass
