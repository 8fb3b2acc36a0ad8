"""Tries the model for as long as it is told, each time with other steps.

`python -m kit.whole_store --minutes 20 --seed 7`, run in tests/; PGQUEUE_TEST_SERVER names the server, as it
does for the tests. With --planted, guards are taken away one at a time, and each has to be missed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
import traceback

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from kit.whole_store.machine import WholeStore
from kit.whole_store.planted import FAULTS, planted
from kit.whole_store.world import World
from pgqueue.testing import running_server
from pgqueue.testing.databases import Databases

TRIES = 60
"""Runs in which a planted fault has to be found."""
EXAMPLES = 20
"""Of each seed: what fails is found again with its seed."""


def say(text: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Try; return how many seeds have failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument(
        "--planted", action="store_true", help="take guards away, one at a time, and find each"
    )
    parser.add_argument("--fault", help="the planted one to find, if not all")
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    given = parser.parse_args()
    first = given.seed if given.seed is not None else random.SystemRandom().randrange(2**31)
    until = time.monotonic() + given.minutes * 60
    failed: list[int] = []
    number = first
    with running_server() as server, Databases.on(server) as databases, asyncio.Runner() as runner:
        dsn = databases.clone()
        world = World(dsn, runner)
        runner.run(world.open())
        WholeStore.shared = world
        if given.planted:
            failed = _find_planted(world, runner, first, given.steps, given.fault)
        # One seed at least: it may take as long to begin.
        while not given.planted and (number == first or time.monotonic() < until):
            try:
                _try(number, given.steps, given.examples)
            except Exception:
                failed.append(number)
                say(f"seed {number}:\n{traceback.format_exc()}")
            number += 1
        say(", ".join(f"{what}: {count}" for what, count in sorted(world.tally.items())))
        runner.run(world.close())
        databases.drop(dsn)
    each = f"{given.examples} runs of {given.steps} steps each"
    say(f"seeds {first} to {number - 1}, {each}; failed: {failed or 'none'}")
    return len(failed)


def _find_planted(
    world: World, runner: asyncio.Runner, number: int, steps: int, chosen: str | None
) -> list[int]:
    missed = []
    for index, (name, fault) in enumerate(FAULTS.items()):
        if chosen not in (None, name):
            continue
        context = planted(world, fault)
        runner.run(context.__aenter__())
        began = time.monotonic()
        try:
            _try(number, steps, TRIES)
        except Exception as error:
            told = str(error).splitlines()[:1]
            say(f"{name}: found in {time.monotonic() - began:.0f} s: {told}"[:400])
        else:
            missed.append(index)
            say(f"{name}: not found")
        finally:
            runner.run(context.__aexit__(None, None, None))
    return missed


def _try(number: int, steps: int, examples: int) -> None:
    class Seeded(WholeStore):
        """The same, of a class that keeps the seed to itself."""

    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(Seeded), settings=how)


if __name__ == "__main__":
    sys.exit(main())
