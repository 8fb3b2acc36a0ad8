"""Job ids: known before the commit, unguessable, ordered by time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import RFC_4122, UUID

from pgqueue.ids import new_id, new_ids

if TYPE_CHECKING:
    from conftest import Connection

RANDOM_BITS = ((1 << 12) - 1) << 64 | ((1 << 62) - 1)


def milliseconds(job_id: UUID) -> int:
    return job_id.int >> 80


def test_an_id_is_a_version_7_uuid_of_this_moment() -> None:
    before = time.time_ns() // 1_000_000

    job_id = new_id()

    assert isinstance(job_id, UUID)
    assert (job_id.version, job_id.variant) == (7, RFC_4122)
    assert before <= milliseconds(job_id) <= time.time_ns() // 1_000_000


def test_ids_of_a_bulk_call_ascend_and_differ() -> None:
    ids = new_ids(10_000)

    assert ids == sorted(ids)
    assert len(set(ids)) == 10_000


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
