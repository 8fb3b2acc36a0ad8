"""Servers change places, and versions do: what is promised then, with real servers, workers and callers."""

from __future__ import annotations

import anyio
import pytest

from faults.scenarios import upgrade
from faults.test_scenarios import figure, run

pytestmark = pytest.mark.faults


@pytest.mark.contract("F14", "F3")
def test_a_failover_to_a_synchronous_standby_loses_nothing_and_is_followed() -> None:
    assert figure(run("failover"), "acknowledged enqueues lost") == 0


@pytest.mark.contract("F14")
def test_a_failover_to_an_asynchronous_standby_loses_whole_transactions_alone() -> None:
    run("failover_asynchronous")


@pytest.mark.contract("F14", "F3")
def test_a_switchover_loses_nothing_and_leaves_the_old_primary() -> None:
    assert figure(run("switchover"), "acknowledged enqueues lost") == 0


@pytest.mark.contract("F14")
def test_an_old_primary_that_nobody_stops_is_left_by_programs_that_reach_both() -> None:
    report = run("split_brain")

    assert figure(report, "sessions left there, of those that were there") == 0
    assert figure(report, "sessions left there, of newcomers") == 0


@pytest.mark.contract("F14", "BP15")
def test_whatever_happens_to_a_pooler_or_behind_it_loses_nothing_and_ends_nobody() -> None:
    assert figure(run("bouncer"), "acknowledged enqueues lost") == 0


@pytest.mark.contract("F14")
def test_workers_of_schema_7_go_on_while_the_schema_is_migrated_and_beside_new_ones() -> None:
    report = anyio.run(upgrade.run, "short")
    if report.impossible is not None:
        # A copy of the project, and no checkout.
        pytest.skip(report.impossible)

    assert report.violations == []
