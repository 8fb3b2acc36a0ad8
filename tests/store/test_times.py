"""Any time that PostgreSQL stores can be read, and told in any time zone; those of the calendar are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside

from pgqueue import PgQueue
from pgqueue.database.times import FIRST, LAST, decode, encode

ZONES = [timezone(timedelta(hours=hours)) for hours in (-12, 0, 14)]


@pytest.mark.contract("W8")
@given(st.integers(-(2**63), 2**63 - 1))
def test_any_stored_time_can_be_read_and_told(stored: int) -> None:
    time = decode((stored,))
    assert FIRST <= time <= LAST
    assert all(time.astimezone(zone).isoformat() for zone in ZONES)


@given(
    st.datetimes(FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None), timezones=st.sampled_from(ZONES[1:]))
)
def test_a_time_of_the_calendar_is_kept(time: datetime) -> None:
    if FIRST <= time.astimezone(UTC) <= LAST:
        assert decode(encode(time)) == time


@pytest.mark.contract("W8")
@pytest.mark.parametrize(
    "time", ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC", "2026-11-28 12:00:00.000001+00"]
)
async def test_a_connection_of_pgqueue_reads_and_sends_any_time(pgq: PgQueue, time: str) -> None:
    async with inside.database(pgq).acquire() as connection:
        read = await connection.fetchval("select $1::text::timestamptz", time)
        again = await connection.fetchval("select $1::timestamptz", read)
    assert FIRST <= read <= LAST
    assert again == read
