"""Reads times that Python's calendar does not have.

PostgreSQL stores years from 4713 BC to 294276, and infinities. asyncpg raises OverflowError for them, and one
such row kept a whole page of others from being read. So they are read as the first or the last day of the
calendar.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)
LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)
"""A day from the ends, so that they can be told in any time zone."""

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_FIRST: Final = (FIRST - _EPOCH) // _MICROSECOND
_LAST: Final = (LAST - _EPOCH) // _MICROSECOND
_INFINITY: Final = 2**63 - 1


def decode(stored: tuple[int]) -> datetime:
    """Return the time that is *stored*, as microseconds since 2000."""
    return _EPOCH + timedelta(microseconds=min(max(stored[0], _FIRST), _LAST))


def encode(time: datetime) -> tuple[int]:
    """Return *time* as it is stored. The last of all times is infinity, as with asyncpg's own codec."""
    if time.replace(tzinfo=None) == datetime.max:  # noqa: DTZ901  # in any time zone
        return (_INFINITY,)
    return ((time.astimezone(UTC) - _EPOCH) // _MICROSECOND,)


async def read_far_times(connection: Connection) -> None:
    """Have *connection* read any time that is stored."""
    # A transaction, because a pooler may give each statement another session.
    async with connection.transaction():
        await connection.set_type_codec(
            "timestamptz", schema="pg_catalog", encoder=encode, decoder=decode, format="tuple"
        )
