"""Job ids: known before the commit, unguessable, in the order in which a process makes them."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import TYPE_CHECKING
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from pgqueue.model.ids import IdSource, new_id, new_ids

if TYPE_CHECKING:
    from conftest import Connection

RANDOM_BITS = (1 << 62) - 1
NOW = 1_795_000_000_000_000_000


def milliseconds(job_id: UUID) -> int:
    return job_id.int >> 80


def test_an_id_is_a_version_7_uuid_of_this_moment() -> None:
    before = time.time_ns() // 1_000_000

    job_id = new_id()

    assert isinstance(job_id, UUID)
    assert (job_id.version, job_id.variant) == (7, RFC_4122)
    # Bulk calls of other tests may have run a little ahead of the clock.
    assert before <= milliseconds(job_id) <= time.time_ns() // 1_000_000 + 100


def test_ids_of_a_bulk_call_ascend_and_differ() -> None:
    ids = new_ids(10_000)

    assert ids == sorted(ids)
    assert len(set(ids)) == 10_000


@given(
    st.lists(
        st.tuples(
            st.one_of(st.just(0), st.integers(-(10**12), 10**12), st.sampled_from([-1, 1, 243, 999_999])),
            st.one_of(st.just(1), st.integers(0, 3), st.sampled_from([4095, 4096, 4097, 10_000])),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_ids_increase_over_calls_and_bulk_calls_whatever_the_clock_does(
    steps: list[tuple[int, int]],
) -> None:
    now = NOW
    source = IdSource(lambda: now)
    made: list[UUID] = []

    for nanoseconds, count in steps:
        now += nanoseconds
        made += source.take(count) if count != 1 else [source.take_one()]

    assert all(one < next_one for one, next_one in pairwise(made))
    assert all((each.version, each.variant) == (7, RFC_4122) for each in made)


@given(st.integers(0, 2**47))
def test_the_first_id_has_the_time_of_the_clock(milliseconds_since_1970: int) -> None:
    source = IdSource(lambda: milliseconds_since_1970 * 1_000_000 + 999_999)

    assert milliseconds(source.take(1)[0]) == milliseconds_since_1970


def test_a_bulk_call_of_a_hundred_thousand_runs_ahead_of_the_clock_by_25_milliseconds_at_most() -> None:
    *_, last = IdSource(lambda: NOW).take(100_000)

    assert milliseconds(last) - NOW // 1_000_000 <= 25


def test_ids_that_threads_make_at_once_increase_in_each_and_differ() -> None:
    source = IdSource(lambda: NOW)

    def make(_: int) -> list[UUID]:
        return [
            job_id
            for count in (1, 7, 1, 300, 1) * 20
            for job_id in (source.take(count) if count != 1 else [source.take_one()])
        ]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(make, range(8)))
    finally:
        sys.setswitchinterval(interval)

    assert all(one < next_one for each in made for one, next_one in pairwise(each))
    # A step each: had two threads taken one step, there would be fewer.
    assert len({job_id.int >> 64 for job_id in chain(*made)}) == 8 * 20 * 310


def test_every_random_bit_of_an_id_varies() -> None:
    seen_set, seen_clear = 0, 0

    for job_id in new_ids(500):
        seen_set |= job_id.int
        seen_clear |= ~job_id.int

    assert seen_set & RANDOM_BITS == RANDOM_BITS
    assert seen_clear & RANDOM_BITS == RANDOM_BITS


def test_no_ids_are_an_empty_list() -> None:
    assert new_ids(0) == []


async def test_ids_made_in_sql_are_version_7_uuids_of_the_databases_moment(db: Connection) -> None:
    row = await db.fetchrow(
        "select array_agg(pgqueue.uuid7()) as ids, extract(epoch from now()) * 1000 as now_ms "
        "from generate_series(1, 1000)"
    )

    assert row is not None
    assert len(set(row["ids"])) == 1000
    for job_id in row["ids"]:
        assert (job_id.version, job_id.variant) == (7, RFC_4122)
        assert abs(milliseconds(job_id) - float(row["now_ms"])) < 60_000
