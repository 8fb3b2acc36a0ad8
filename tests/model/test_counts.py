"""What measures are, as values."""

from __future__ import annotations

import json
import pickle

from hypothesis import given
from hypothesis import strategies as st

from pgqueue.model.measures import Count

NUMBERS = st.integers(min_value=0, max_value=10**12)
COUNTS = st.builds(Count, NUMBERS, st.booleans())


@given(COUNTS, NUMBERS)
def test_a_count_adds_compares_and_is_written_like_a_number(count: Count, number: int) -> None:
    value = count.value

    assert (count + number, number + count, count - number, count * 2) == (
        value + number,
        number + value,
        value - number,
        value * 2,
    )
    assert (count == number, count != number) == (value == number, value != number)
    assert (count < number, count >= number, number < count) == (
        value < number,
        value >= number,
        number < value,
    )
    assert (str(count), f"{count:,}", json.dumps({"n": count})) == (
        str(value),
        f"{value:,}",
        json.dumps({"n": value}),
    )
    assert (hash(count), bool(count), count + 0.5) == (hash(value), bool(value), value + 0.5)


@given(st.lists(COUNTS))
def test_a_sum_of_counts_is_exact_if_all_of_them_are(counts: list[Count]) -> None:
    total = sum(counts, Count(0))

    assert (total.value, total.is_exact) == (
        sum(each.value for each in counts),
        all(each.is_exact for each in counts),
    )
    assert pickle.loads(pickle.dumps(total)) == total  # our own


def test_an_estimate_is_not_what_was_counted() -> None:
    assert Count(5, is_exact=False) != Count(5)
    assert Count(5, is_exact=False) == 5 == Count(5)
    assert repr(Count(5, is_exact=False)) == "Count(5, is_exact=False)"
