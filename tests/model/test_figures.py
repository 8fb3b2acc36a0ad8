"""Numbers and times as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue.model import figures
from pgqueue.model.estimates import BUCKETS, buckets
from pgqueue.model.measures import Count, Drain

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
    assert figures.count(Count(1_234_567, is_exact=False)) == "~1.23 M"
    assert figures.capped(1000, 1000) == "1,000+"
    assert figures.capped(999, 1000) == "999"


def test_a_drain_estimate_shows_its_spread_and_when_there_is_no_end() -> None:
    assert figures.drain(Drain(120, 240, 540)) == "about 4 min (2 min to 9 min)"
    assert figures.drain(Drain(120, 240, math.inf)) == "about 4 min (2 min to never)"
    assert figures.drain(Drain(600, math.inf, math.inf)) == "10 min at best"
    assert figures.drain(Drain(math.inf, math.inf, math.inf)) == "not at this rate"


def test_rates_are_shown_in_the_unit_that_fits() -> None:
    assert [figures.rate(each) for each in (0, 12_345, 1.5, 0.5, 0.001)] == [
        "0/s",
        "12.3 k/s",
        "1.5/s",
        "30/min",
        "4/h",
    ]


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
