"""Each scenario in its shortest form, and faults at random: nothing is violated, whatever is disturbed.

They take minutes, and wait for most of them: the plain suite leaves them out, `pytest -m faults` runs them.
How quickly things go on is measured by `python -m tests.faults --figures`, on a machine without other work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from faults.figures import Report
from faults.scenarios import SCENARIOS

pytestmark = pytest.mark.faults

PROJECT = Path(__file__).parents[2]


def run(name: str, *, exits: int | None = 0) -> Report:
    """Run a scenario; fail on what it violates, and in CI on what the machine lacks.

    *exits*: how many workers end by themselves; None: it is not known.
    """
    report = anyio.run(SCENARIOS[name], "short")
    if report.impossible is not None and name != "disk":
        message = f"{name}: {report.impossible}"
        if os.environ.get("PGQUEUE_CI"):
            pytest.fail(message)
        pytest.skip(message)
    assert report.violations == []
    assert exits is None or report.counts.get("exits", 0) == exits
    return report


def figure(report: Report, name: str) -> float:
    """Return what was measured under that name."""
    [found] = [figure.value for figure in report.figures if figure.name == name]
    assert found is not None
    return found


@pytest.mark.contract("P2.11", "P2.12", "P2.13", "BP2", "F11")
def test_killed_workers_lose_nothing_and_finish_nothing_twice() -> None:
    assert figure(run("kill"), "jobs run again") > 0


@pytest.mark.contract("P2.13", "F11")
def test_a_job_that_ends_its_process_is_stopped_by_its_losses_and_harms_no_other() -> None:
    report = run("poison", exits=None)

    assert figure(report, "poisonous jobs that failed") == 1
    assert figure(report, "harmless jobs that failed") == 0


@pytest.mark.contract("P2.20", "F11")
def test_workers_that_are_stopped_return_what_outlasts_the_grace_and_exit_well() -> None:
    report = run("stop")

    assert figure(report, "jobs returned") > 0
    assert figure(report, "losses charged") == 0
    assert figure(report, "exits by an error") == 0


@pytest.mark.contract("P2.7", "F11")
def test_a_handler_that_blocks_its_process_costs_no_other_job_an_attempt() -> None:
    report = run("block")

    assert figure(report, "blocking jobs ended at their limit") == 1
    assert figure(report, "attempts of others charged") == 0


@pytest.mark.contract("P2.17", "P2.14", "F11")
def test_what_frozen_workers_say_late_is_not_heard() -> None:
    report = run("freeze")

    assert figure(report, "zombies") >= 5
    assert figure(report, "zombies accepted") == 0


@pytest.mark.contract("BP13", "BP2", "P2.19", "F11")
def test_a_restart_of_the_server_under_load_costs_no_job_and_no_success() -> None:
    assert figure(run("restart"), "successes of live workers thrown away") == 0


@pytest.mark.contract("BP2", "P2.18", "F9", "F11")
def test_a_crash_of_the_server_loses_nothing_that_was_acknowledged() -> None:
    run("crash")


@pytest.mark.contract("P2.19", "P2.14", "F5", "F11")
def test_outcomes_survive_an_outage_longer_than_the_lease() -> None:
    report = run("outage")

    assert figure(report, "successes of live workers thrown away") == 0
    assert figure(report, "at-most-once jobs failed") == 0


@pytest.mark.contract("P2.16", "F2", "F11")
def test_connections_that_die_in_silence_cost_no_lease() -> None:
    report = run("silence")

    assert figure(report, "leases lost") == 0
    assert figure(report, "losses charged") == 0


@pytest.mark.contract("F1", "BP13", "F11")
def test_refused_logins_end_no_worker_and_charge_no_loss() -> None:
    assert figure(run("login"), "losses charged") == 0


@pytest.mark.contract("F3", "F11")
def test_a_deaf_host_is_passed_by_and_a_frozen_one_is_left() -> None:
    run("host")


@pytest.mark.contract("BP13", "F11")
def test_a_full_disk_loses_nothing_that_was_acknowledged() -> None:
    run("disk")


@pytest.mark.contract("P2.15", "BP13", "BP14", "F6", "F11")
def test_sessions_that_are_terminated_cost_no_lease_and_no_worker() -> None:
    report = run("backends")

    assert figure(report, "losses charged") == 0
    # Each session that was lost is forgotten, with all that was made for it.
    assert figure(report, "a worker's memory grew by at most") < 32


@pytest.mark.contract("F4", "F11")
def test_without_connections_jobs_wait_and_use_up_no_attempt() -> None:
    assert figure(run("connections"), "attempts used up") == 0


@pytest.mark.contract("F9", "P2.16", "F11")
def test_a_step_of_the_clock_rescues_nothing_that_lives() -> None:
    assert figure(run("clock"), "losses charged") == 0


@pytest.mark.contract("F8", "P2.11", "F11")
def test_killed_children_of_a_supervisor_lose_nothing() -> None:
    run("supervisor")


@pytest.mark.contract("P2.11", "BP15", "F11")
def test_killed_workers_behind_a_pooler_lose_nothing() -> None:
    assert figure(run("pooler"), "jobs run again") > 0


@pytest.mark.contract("F11", "P2.18", "P2.20", "BP2")
def test_faults_at_random_violate_nothing_and_the_command_says_so() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--minutes", "0.6", "--seed", "14", "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    [report] = json.loads(ended.stdout)
    assert report["violations"] == []
    assert report["counts"]["faults"]
    assert "mixed run, seed 14" in ended.stderr
