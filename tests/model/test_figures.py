"""Numbers and times as people read them."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue.model import figures
from pgqueue.model.estimates import BUCKETS, buckets
from pgqueue.model.measures import Count, Drain, QueueMeasure

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.000_3, "0.3 ms"),
        (0.000_4, "0.4 ms"),
        (0.0123, "12 ms"),
        (0.85, "850 ms"),
        (0.9996, "1 s"),
        (4.25, "4.2 s"),
        (59.96, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (90_000, "1 d 1 h"),
        (4000 * 86_400, ">10 years"),
        (math.inf, "never"),
        (-3, "-3 s"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: float, shown: str) -> None:
    assert figures.duration(seconds) == shown


@given(st.floats(allow_nan=False, min_value=0))
def test_any_duration_rate_and_number_can_be_shown(number: float) -> None:
    assert len(figures.duration(number)) <= 12
    assert figures.rate(number)
    assert figures.short(number)


def test_counts_show_whether_they_are_estimates() -> None:
    assert figures.count(Count(9999)) == "9,999"
    assert figures.count(Count(1_234_567, is_exact=False)) == "~1.2 M"
    assert figures.capped(1000, 1000) == "1,000+"
    assert figures.capped(999, 1000) == "999"


def test_a_drain_estimate_shows_its_spread_and_when_there_is_no_end() -> None:
    assert figures.drain(Drain(120, 240, 540)) == "about 4 min (2 min to 9 min)"
    assert figures.drain(Drain(120, 240, math.inf)) == "about 4 min (at least 2 min)"
    assert figures.drain(Drain(600, math.inf, math.inf)) == "10 min at best"
    assert figures.drain(Drain(math.inf, math.inf, math.inf)) == "not at this rate"


def test_rates_are_shown_in_the_unit_that_fits() -> None:
    assert [figures.rate(each) for each in (0, 12_345, 1.5, 0.5, 0.001)] == [
        "0/s",
        "12.3 k/s",
        "1.5/s",
        "30/min",
        "3.6/h",
    ]


def test_rates_of_one_column_have_one_unit() -> None:
    def column(*rates: float) -> list[str]:
        unit = figures.rate_unit(rates)
        return [figures.rate(each, unit) for each in rates]

    assert column(120, 0.5, 0.001, 0) == ["120/s", "0.5/s", "<0.01/s", "0/s"]
    assert column(0.5, 0.1) == ["30/min", "6/min"]
    assert column(0.0, 0.0) == ["0/s", "0/s"]
    assert column() == []


@given(st.lists(st.floats(min_value=0, max_value=1e9), max_size=5))
def test_rates_of_one_column_are_shown_in_few_letters(rates: list[float]) -> None:
    unit = figures.rate_unit(rates)

    for each in rates:
        shown = figures.rate(each, unit)
        assert shown.endswith(f"/{unit}")
        assert len(shown) <= 9
        # What is not zero is not shown as zero.
        assert (each == 0) == shown.startswith("0/")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.000_123, "0.12 ms"),
        (0.123, "120 ms"),
        (4.27, "4.3 s"),
        (59.7, "1 min"),
        (200, "3.3 min"),
        (59.7 * 60, "1 h"),
        (54_321, "15 h"),
        (123 * 86_400, "120 d"),
        (math.inf, "never"),
    ],
)
def test_an_estimated_duration_has_two_digits_of_one_unit(seconds: float, shown: str) -> None:
    assert figures.roughly(seconds) == shown


@given(st.floats(min_value=0, max_value=4e8))
def test_an_estimated_duration_is_right_to_two_digits(seconds: float) -> None:
    shown, unit = figures.roughly(seconds).split() if seconds < 3650 * 86_400 else ("1", "")
    scale = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86_400}

    assert len(shown.replace(".", "").replace(",", "").strip("0")) <= 2
    if unit and seconds > 0.001:
        assert float(shown.replace(",", "")) * scale[unit] == pytest.approx(seconds, rel=0.06)


FOREVER = Drain(math.inf, math.inf, math.inf)


@pytest.mark.parametrize(
    ("pending", "rates", "drain", "shown"),
    [
        (50, (0.0, 1.0), Drain(40, 50, 60), "~50 s"),
        (50, (9.0, 1.0), FOREVER, "never"),
        # As fast as it is filled: it does not grow.
        (50, (1.0, 1.0), FOREVER, "steady"),
        (50, (1.0, 1.1), FOREVER, "steady"),
        (50, (1.0, 1.0), Drain(40, math.inf, math.inf), ">40 s"),
        (0, (1.0, 1.0), None, ""),
    ],
)
def test_never_is_said_only_of_a_queue_that_grows(
    pending: int, rates: tuple[float, float], drain: Drain | None, shown: str
) -> None:
    queue = a_queue(pending, rates, drain)

    assert figures.to_empty(queue) == shown
    assert figures.to_empty(replace(queue, is_paused=True)) == ("paused" if pending else "")


def a_queue(pending: int, rates: tuple[float, float], drain: Drain | None) -> QueueMeasure:
    none = Count(0)
    return QueueMeasure(
        queue="q",
        is_paused=False,
        pending=Count(pending),
        scheduled=none,
        retrying=none,
        blocked=none,
        running=none,
        failed=none,
        oldest_age=None,
        enqueued_rate=rates[0],
        finished_rate=rates[1],
        wait=None,
        run=None,
        drain=drain,
    )


def test_a_bucket_is_shown_by_its_bounds() -> None:
    all_of_them = buckets([1] * BUCKETS)

    assert [figures.between(all_of_them[index]) for index in (0, 10, -1)] == [
        "up to 1 ms",
        "1 s to 2 s",
        "more than 1 d",
    ]


def test_a_time_is_shown_to_the_second_in_utc() -> None:
    east = datetime(2026, 1, 2, 5, 4, 5, 678, timezone(timedelta(hours=2)))

    assert figures.moment(east) == "2026-01-02 03:04:05Z"
    assert figures.clock(east) == "03:04"


def test_ages_are_rough_and_know_the_future() -> None:
    assert figures.ago(NOW - 200 * SECOND, NOW) == "3 min ago"
    assert figures.ago(NOW + 7200 * SECOND, NOW) == "in 2 h"
    assert figures.ago(NOW, NOW) == "now"
