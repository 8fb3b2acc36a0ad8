"""What benchmarks of several parts share: rounds, databases with slow commits, and bars beside figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import common

COMMITS = {"disk": (), "3ms": ("commit_delay = 3000", "commit_siblings = 0")}
"""What later connections to a database have set."""

Measure = Callable[[str, argparse.Namespace, int], Awaitable[Any]]
Bars = Mapping[str, tuple[float | None, float | None]]
"""The least and the most that a figure may be, by its name, with wildcards."""


def in_turn(number: int, *what: str) -> Sequence[str]:
    """Return *what*, beginning with another one in each round."""
    first = number % len(what)
    return *what[first:], *what[:first]


async def settle(dsn: str) -> None:
    """Have what follows start from the same state of the tables each time."""
    async with common.connected(dsn) as connection:
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")


async def set_for_all(dsn: str, settings: Sequence[str]) -> bool:
    """Set what later connections to this database have; the server has others beside it.

    Says so and returns False where the role may not.
    """
    name = urlsplit(dsn).path.removeprefix("/")
    async with common.connected(dsn) as connection:
        try:
            for setting in settings:
                await connection.execute(f"alter database {name} set {setting}")
        except asyncpg.InsufficientPrivilegeError as error:
            what = ", ".join(settings)
            print(
                f"benchmark: not measured with {what}: {error}: give the --dsn of a superuser",
                file=sys.stderr,
            )
            return False
    return True


async def measure(
    parts: Mapping[str, Measure], server: str, options: argparse.Namespace, *, once: Collection[str]
) -> dict[str, list[Any]]:
    """Go through the parts in each round, through those of *once* in the first; return each one's rounds.

    A part that fails says so, and has one round less.
    """
    rounds: dict[str, list[Any]] = {part: [] for part in options.only}
    for number in range(options.rounds):
        for part in options.only:
            if number == 0 or part not in once:
                try:
                    rounds[part].append(await parts[part](server, options, number))
                except (Exception, SystemExit) as error:  # the others go on
                    print(f"benchmark: {part}, round {number + 1}: {error!r}", file=sys.stderr)
    return {part: measured for part, measured in rounds.items() if measured}


def report(
    what: str,
    machine: dict[str, object],
    parts: dict[str, list[common.Figures]],
    bars: Bars,
    *,
    as_json: bool,
) -> None:
    """Print the median and the spread of each figure, and the bar that it is to meet."""
    if as_json:
        median = {name: it for rounds in parts.values() for name, it in common.medians(rounds).items()}
        print(json.dumps({"benchmark": what, "machine": machine, "median": median, "parts": parts}))
        return
    print(what)
    print("  on " + ", ".join(f"{name} {value}" for name, value in machine.items()))
    for part, rounds in parts.items():
        print(f"\n  {part}")
        for name, middle in common.medians(rounds).items():
            values = [each[name] for each in rounds]
            spread = f"{min(values):,.2f} to {max(values):,.2f}, {len(values)} rounds"
            print(f"    {name:<34} {middle:>12,.2f}   ({spread}){bar_of(bars, name, middle)}")


def bar_of(bars: Bars, name: str, value: float) -> str:
    """Return the bar of a figure, and whether it is met, as they are printed; most have none."""
    for pattern, (least, most) in bars.items():
        if fnmatchcase(name, pattern):
            words = [f"at least {least:g}"] if least is not None else []
            words += [f"at most {most:g}"] if most is not None else []
            is_met = (least is None or value >= least) and (most is None or value <= most)
            return f"   bar: {', '.join(words)}: {'met' if is_met else 'MISSED'}"
    return ""


def add_only(parser: argparse.ArgumentParser, parts: Collection[str]) -> None:
    """Add the option that names parts like `chain,drain`."""

    def names(text: str) -> list[str]:
        chosen = text.split(",")
        if not set(chosen) <= set(parts):
            raise argparse.ArgumentTypeError(f"choose from {', '.join(parts)}")
        return chosen

    parser.add_argument("--only", type=names, default=list(parts), help=f"of {', '.join(parts)}")
