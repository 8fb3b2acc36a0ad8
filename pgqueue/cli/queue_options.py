"""The queues of a worker on the command line, and what is odd about them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import typer

from pgqueue import PgQueue

NO_TASKS: Final = (
    "this PgQueue declares no task, so this worker leaves every job to others; import the modules that "
    "declare tasks, or pass them by --include"
)


def read_queues(given: str | None, declared: Collection[str]) -> Mapping[str, int | None] | list[str] | None:
    """Return the queues of `--queues`: names, or each with its slots, as in `mail:20,reports:2,default`.

    Raises typer.BadParameter.
    """
    if given is None:
        return None
    slots: dict[str, int | None] = {}
    for each in filter(None, map(str.strip, given.split(","))):
        name, number = _read(each, declared, "--queues")
        if name in slots and slots[name] != number:
            raise typer.BadParameter(f"--queues names {name!r} twice, with different slots; leave one out")
        if number is not None and number < 1:
            raise typer.BadParameter(
                f"--queues: {each!r} gives queue {name!r} no slots; give it 1 or more, or leave it out"
            )
        slots[name] = number
    if not slots:
        raise typer.BadParameter("--queues names no queue; leave it out to work on all that are declared")
    return slots if any(number is not None for number in slots.values()) else list(slots)


def read_weights(given: str | None, declared: Collection[str]) -> Mapping[str, int] | None:
    """Return the weights of `--weights`, as in `mail:3,reports:1`. Raises typer.BadParameter."""
    if given is None:
        return None
    weights = {}
    for each in filter(None, map(str.strip, given.split(","))):
        name, number = _read(each, declared, "--weights")
        if number is None or number < 1:
            raise typer.BadParameter(f"--weights: {each!r} must be QUEUE:NUMBER, with a number of 1 or more")
        weights[name] = number
    return weights


def _read(given: str, declared: Collection[str], option: str) -> tuple[str, int | None]:
    name, is_pair, number = given.rpartition(":")
    if not is_pair or given in declared:
        return given, None
    digits = number.strip().removeprefix("-")
    if not name or not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise typer.BadParameter(
            f"{option}: {given!r} must be QUEUE or QUEUE:NUMBER, with a whole number; a queue with a colon "
            "in its name needs the number"
        )
    return name.strip(), int(number)


def oddities(pgq: PgQueue, queues: Collection[str] | None, served_elsewhere: Iterable[str]) -> list[str]:
    """Return what is odd about a worker of *queues* (None: all declared), a sentence each."""
    registry = pgq.registry
    declared = registry.queues
    if not any(True for _ in registry.names):
        return [NO_TASKS]
    own = set(declared if queues is None else queues)
    found = []
    for name in sorted(own - declared):
        near = difflib.get_close_matches(name, declared, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"they name {', '.join(sorted(declared))}"
        found.append(f"no task names queue {name!r}, which this worker serves; {hint}")
    used = {registry.queue_of(each) for each in registry.definitions}
    unserved = (declared - {registry.default_queue} | used) - own - set(served_elsewhere)
    found += [
        f"no worker serves queue {name!r} now, and its jobs wait; add it to --queues, or start another worker"
        for name in sorted(unserved)
    ]
    return found
