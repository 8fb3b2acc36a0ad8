"""What several worker processes report, as one."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.waiting import eventually
from prometheus_client import CollectorRegistry, Counter, Gauge

from pgqueue.metrics.multiprocess import (
    Family,
    ProcessReports,
    Report,
    add_up,
    pack,
    read_registry,
    reporting,
    unpack,
)

SAMPLE = ("jobs_total", (("task", "a"),))


def counted(value: float, **gauges: float) -> Report:
    families = {name: Family("gauge", name, {(name, ()): value}) for name, value in gauges.items()}
    return Report({"jobs": Family("counter", "Jobs", {SAMPLE: value}), **families})


def test_counts_are_added_and_the_greatest_age_is_taken() -> None:
    one, other = counted(3, running=2, age_seconds=7.0), counted(4, running=1, age_seconds=5.0)

    total = add_up([one, other])

    assert total["jobs"].samples == {SAMPLE: 7}
    assert total["running"].samples == {("running", ()): 3}
    assert total["age_seconds"].samples == {("age_seconds", ()): 7.0}


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), st.floats(allow_nan=False), max_size=5),
    st.lists(st.text(st.characters(codec="utf-8"))),
)
def test_a_report_is_one_line_whatever_is_in_it(samples: dict[str, float], problems: list[str]) -> None:
    families = {"f": Family("gauge", "…\n", {("f", (("task", task),)): v for task, v in samples.items()})}
    report = Report(families, problems)

    line = pack(report)

    assert line.count(b"\n") == 1
    assert unpack(line) == report


def a_registry(count: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("jobs_total", "Jobs", ["task"], registry=registry).labels("a").inc(count)
    Gauge("running", "Running", registry=registry).set(count)
    return registry


def test_a_registry_is_read_without_the_times_at_which_its_series_were_made() -> None:
    families = read_registry(a_registry(3))

    assert families["jobs"].samples == {("jobs_total", (("task", "a"),)): 3}
    assert families["running"].samples == {("running", ()): 3}


class Process:
    """What `reporting` runs in: here a thread of the test's own process."""

    def __init__(self, descriptor: int, registry: CollectorRegistry, problems: Sequence[str] = ()) -> None:
        # The supervisor's copy is the supervisor's to close.
        with socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as copy:
            self._reporting = reporting(copy.detach(), registry, lambda: problems)
        self._reporting.__enter__()

    def end(self) -> None:
        self._reporting.__exit__(None, None, None)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every call ask the processes."""
    monkeypatch.setattr("pgqueue.metrics.multiprocess.FRESH", 0.0)


@pytest.mark.contract("BP10")
async def test_what_an_ended_process_counted_stays_counted(impatient: None) -> None:
    reports = ProcessReports()
    registry = CollectorRegistry()
    registry.register(reports)

    async with reports.attach() as (option, one):
        assert option == f"--report-to={one}"
        first = Process(one, a_registry(3))
        async with reports.attach() as (_, other):
            second = Process(other, a_registry(4), ["it does nothing"])
            await reports.ask()
            both = registry.get_sample_value("jobs_total", {"task": "a"})
            running = registry.get_sample_value("running")
            problems = reports.problems(3)
            await anyio.to_thread.run_sync(second.end)
        left = registry.get_sample_value("jobs_total", {"task": "a"})
        running_left = registry.get_sample_value("running")
        await anyio.to_thread.run_sync(first.end)

    assert (both, running) == (7, 7)
    assert problems == ["1 of 3 worker processes have not reported yet", "it does nothing"]
    assert (left, running_left) == (7, 3)
    assert registry.get_sample_value("jobs_total", {"task": "a"}) == 7


async def test_a_process_reports_at_its_end_without_being_asked() -> None:
    reports = ProcessReports()
    registry = CollectorRegistry()
    registry.register(reports)

    async with reports.attach() as (_, descriptor):
        process = Process(descriptor, a_registry(5))
        await anyio.to_thread.run_sync(process.end)

    assert registry.get_sample_value("jobs_total", {"task": "a"}) == 5


async def test_a_process_that_does_not_answer_is_shown_as_it_was(
    impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgqueue.metrics.multiprocess.ANSWER_WITHIN", 0.05)
    reports = ProcessReports()
    registry = CollectorRegistry()
    registry.register(reports)

    async with reports.attach() as (_, descriptor):
        with socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as silent:
            await reports.ask()
            await reports.ask()
            questions = silent.recv(100)
            silent.sendall(pack(counted(2)))

            async def is_known() -> bool:
                await reports.ask()
                return registry.get_sample_value("jobs_total", {"task": "a"}) == 2

            await eventually(is_known)
    # It would find as many as it is asked while it is stuck.
    assert questions == b"?"
