"""Whatever is done to the store, by several at once and in whatever order: it comes to what a model says.

`python -m kit.whole_store --minutes 20`, run in tests/, tries it with other steps for as long as it is told.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from kit.whole_store.machine import WholeStore
from kit.whole_store.world import World

pytestmark = pytest.mark.contract("F12")

EXAMPLES = int(os.environ.get("PGQUEUE_MODEL_EXAMPLES", "8"))
STEPS = int(os.environ.get("PGQUEUE_MODEL_STEPS", "60"))
QUICK = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize="PGQUEUE_MODEL_EXAMPLES" not in os.environ,
    database=None,
    print_blob=True,
    phases=[Phase.generate, *([Phase.shrink] if os.environ.get("PGQUEUE_MODEL_SHRINK") else [])],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def world(dsn: str) -> Iterator[World]:
    with asyncio.Runner() as runner:
        world = World(dsn, runner)
        runner.run(world.open())
        WholeStore.shared = world
        yield world
        runner.run(world.close())


def test_whatever_is_done_by_several_at_once_the_store_comes_to_what_a_model_says(world: World) -> None:
    run_state_machine_as_test(WholeStore, settings=QUICK)
