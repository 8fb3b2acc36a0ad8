"""What the pages draw, and how they show values: pure functions."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.values import a_job

from pgqueue.model.estimates import BUCKETS, buckets
from pgqueue.model.jobs import Attempt, Job, JobStatus
from pgqueue.model.measures import Period
from pgqueue.web.pages import charts, scales
from pgqueue.web.pages.format import ABSENT, FILTERS, SHOWN_CHARACTERS, is_dark, pretty, visible

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
AMOUNTS = st.lists(st.floats(0, 1e9), min_size=1, max_size=100)


def job(status: JobStatus, *, started: float | None, ended: float | None, attempt: int = 1) -> Job:
    """Return a job that was created 100 seconds ago; times are in seconds since then."""
    created = NOW - 100 * SECOND
    return a_job(
        status,
        attempt=attempt,
        created_at=created,
        started_at=None if started is None else created + started * SECOND,
        completed_at=None if ended is None else created + ended * SECOND,
        read_at=NOW,
    )


def attempt(number: int, started: float, ended: float) -> Attempt:
    created = NOW - 100 * SECOND
    return Attempt(
        number, created + started * SECOND, created + ended * SECOND, None, None, "exception", None
    )


def told(shown: Job, *attempts: Attempt) -> list[tuple[str, float]]:
    return [(each.kind, each.seconds) for each in charts.timeline(shown, attempts, NOW)]


def test_a_timeline_tells_waiting_attempts_and_the_end() -> None:
    succeeded = job(JobStatus.SUCCEEDED, started=10, ended=30)
    running = job(JobStatus.RUNNING, started=10, ended=None)
    pending = job(JobStatus.PENDING, started=None, ended=None, attempt=0)
    expired = job(JobStatus.EXPIRED, started=None, ended=50, attempt=0)

    assert told(succeeded) == [("waiting", 10), ("succeeded", 20)]
    assert told(running) == [("waiting", 10), ("running", 90)]
    assert told(pending) == [("waiting", 100)]
    assert told(expired) == [("expired", 50)]


def test_a_timeline_tells_each_attempt_that_failed() -> None:
    failed = job(JobStatus.FAILED, started=10, ended=40, attempt=2)
    again = job(JobStatus.SUCCEEDED, started=10, ended=60, attempt=3)

    attempts = attempt(1, 10, 15), attempt(2, 35, 40)

    assert told(failed, *attempts) == [("waiting", 10), ("failed", 5), ("waiting", 20), ("failed", 5)]
    # A worker from before did not write down when the last one began.
    assert told(again, *attempts)[-1] == ("succeeded", 20)
    dated = replace(again, attempt_started_at=again.created_at + 55 * SECOND)
    assert told(dated, *attempts)[-3:] == [("failed", 5), ("waiting", 15), ("succeeded", 5)]
    running = replace(dated, status=JobStatus.RUNNING, completed_at=None)
    assert told(running, *attempts)[-2:] == [("waiting", 15), ("running", 45)]


@given(
    st.lists(st.tuples(st.floats(-10, 100), st.floats(-10, 100)), max_size=8),
    st.sampled_from(JobStatus),
    st.one_of(st.none(), st.floats(-10, 100)),
)
def test_a_timeline_fills_its_width_whatever_the_times_say(
    spans: list[tuple[float, float]], status: JobStatus, ended: float | None
) -> None:
    shown = job(status, started=5, ended=ended)

    stretches = charts.timeline(shown, [attempt(1, *span) for span in spans], NOW)

    reached = 0.0
    for each in stretches:
        assert each.x == pytest.approx(reached, abs=0.1)
        assert each.width > 0
        reached = each.x + each.width
    assert not stretches or reached == pytest.approx(100, abs=0.1)


@given(AMOUNTS)
def test_bars_stay_in_their_chart(values: list[float]) -> None:
    top = scales.nice_top(values)

    drawn = charts.bars(values, width=100, height=20, top=top)

    assert top >= max(values) * 0.999
    assert all(0 <= bar.x <= bar.x + bar.width <= 100.1 for bar in drawn)
    assert all(-0.1 <= bar.y <= bar.y + bar.height <= 20.1 for bar in drawn)


@given(AMOUNTS)
def test_shares_fill_their_bar(values: list[float]) -> None:
    drawn = charts.shares(values, width=100)

    assert sum(bar.width for bar in drawn) == pytest.approx(100 if sum(values) else 0, abs=1)


def test_a_line_leaves_gaps_and_draws_dots() -> None:
    path = charts.line([0, 10, None, 5, None], width=40, height=10)

    assert path == "M0 10L10 0M30 5h0"


def test_a_spike_is_clipped_and_said() -> None:
    periods = [Period(NOW + place * SECOND, 1, 10, 0, 10, 0, 0, None, None) for place in range(20)]
    periods[7] = replace(periods[7], succeeded=200, retried=100, failed=100)

    chart = charts.throughput(periods, width=100, height=10)

    assert (chart.top, [tuple(each) for each in chart.clipped]) == (10, [(periods[7].at, 400, 37.5)])
    assert chart.succeeded[7].height == chart.succeeded[6].height == 10
    assert (chart.retried[7].height, chart.failed[7].height) == (0, 0)


def test_what_is_usual_is_not_clipped() -> None:
    assert scales.scale([5.0] * 10 + [15.0] * 10) == (20, ())
    assert scales.scale([0.0] * 19 + [900.0]) == (1000, ())
    assert scales.scale([1.0, 1.0, 900.0]) == (1000, ())
    assert scales.scale([None] * 20) == (1, ())
    # A gap keeps its place.
    assert scales.scale([None, 90.0, *[2.0] * 18]) == (2, (1,))


@given(AMOUNTS)
def test_what_is_higher_than_its_chart_is_said_to_be(values: list[float]) -> None:
    top, clipped = scales.scale(values)

    assert [at for at, value in enumerate(values) if value > top * 1.000_01] == [
        at for at in clipped if values[at] > top * 1.000_01
    ]
    assert len(clipped) <= max(1, len(values) // 10)


def test_retried_attempts_stand_between_successes_and_failures() -> None:
    period = Period(NOW, 60, 0, 0, 60, 60, 60, None, None)

    chart = charts.throughput([period], width=10, height=10)

    assert (chart.top, chart.clipped) == (5, [])
    assert [each.y for each in (chart.succeeded[0], chart.retried[0], chart.failed[0])] == [8, 6, 4]


def test_a_chart_of_nothing_is_flat() -> None:
    nothing = Period(NOW, 60, 0, 0, 0, 0, 0, None, None)

    chart = charts.throughput([nothing, nothing], width=10, height=10)

    assert (chart.top, chart.enqueued) == (1, "M0 10L10 10")
    assert all(bar.height == 0 for bar in [*chart.succeeded, *chart.failed])


def test_failures_stand_on_successes() -> None:
    period = Period(NOW, 60, 0, 0, 60, 60, 0, None, None)

    chart = charts.throughput([period], width=10, height=10)

    assert (chart.succeeded[0].y, chart.succeeded[0].height) == (5, 5)
    assert (chart.failed[0].y, chart.failed[0].height) == (0, 5)


@given(st.lists(st.integers(0, 10**6), min_size=BUCKETS, max_size=BUCKETS))
def test_a_histogram_leaves_out_nothing_but_empty_ends(counts: list[int]) -> None:
    drawn = charts.histogram(buckets(counts), width=100, height=20)

    if drawn is None:
        assert not any(counts)
        return
    assert sum(bucket.jobs for bucket in drawn.buckets) == sum(counts)
    assert len(drawn.buckets) == len(drawn.bars) == len(drawn.columns) >= charts.LEAST_BUCKETS
    assert [bar.height > 0 for bar in drawn.bars] == [bucket.jobs > 0 for bucket in drawn.buckets]
    assert all(before.upto == after.above for before, after in pairwise(drawn.buckets))


@pytest.mark.parametrize("place", [0, 11, BUCKETS - 1])
def test_equal_durations_are_one_bar_among_empty_buckets(place: int) -> None:
    counts = [0] * BUCKETS
    counts[place] = 7

    drawn = charts.histogram(buckets(counts), width=90, height=20)

    assert drawn is not None
    assert drawn.top == 10
    assert sorted(bar.height for bar in drawn.bars) == [0.0] * 8 + [14.0]


@given(st.text())
def test_shown_text_hides_and_reorders_nothing(text: str) -> None:
    shown = visible(text)

    assert not any(unicodedata.category(each) in {"Cc", "Cf", "Cs"} for each in shown if each not in "\n\t")


@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=5))
)
def test_pretty_json_is_the_same_json(value: object) -> None:
    assert json.loads(pretty(value)) == value


def test_a_long_value_is_cut_and_says_so() -> None:
    shown = pretty("x" * 100_000)

    assert len(shown) < SHOWN_CHARACTERS + 100
    assert "80,002 more characters" in shown


@pytest.mark.parametrize(("colour", "dark"), [("#8b1e3f", True), ("#ffd400", False), ("#000000", True)])
def test_text_on_the_instance_colour_can_be_read(colour: str, dark: bool) -> None:
    assert is_dark(colour) is dark


def test_a_missing_figure_is_a_dash() -> None:
    shown = {name: FILTERS[name](None) for name in ("duration", "moment", "drain")}

    assert set(shown.values()) == {ABSENT}


def test_a_job_without_a_past_has_no_timeline() -> None:
    fresh = replace(job(JobStatus.PENDING, started=None, ended=None), created_at=NOW)

    assert charts.timeline(fresh, [], NOW) == []
