"""A queue that is declared again has what the last declaration says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgqueue import InvalidOptionError, PgQueue, Rate

if TYPE_CHECKING:
    from conftest import Connection

OPTIONS: dict[str, Any] = {
    "max_depth": 1,
    "slots": 3,
    "rate": Rate(10),
    "fair_by": "number",
    "ageing": 60,
    "tags": ("of mail",),
}


async def held_back_by(pgq: PgQueue, db: Connection) -> list[str]:
    """Return what a job of the queue passes: names and keys in turn."""
    job = await pgq.enqueue_by_name("work", number=1)
    found = await db.fetchval("select coalesce(gates, '{}') from pgqueue.job where id = $1", job.id)
    return list(found[::2])


@pytest.fixture
def work(pgq: PgQueue) -> None:
    @pgq.task(name="work", queue="mail")
    async def work(number: int) -> None: ...


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("rest", [{}, {"timeout": 30}], ids=["the name alone", "an option"])
async def test_what_the_last_declaration_leaves_out_is_gone(
    pgq: PgQueue, db: Connection, work: None, option: str, rest: dict[str, Any]
) -> None:
    pgq.queue("mail", **{option: OPTIONS[option]})
    pgq.queue("mail", **rest)
    assert await held_back_by(pgq, db) == []
    # No depth, either.
    await pgq.enqueue_by_name("work", number=2)
    assert "mail" not in pgq.registry.ageing
    assert await pgq.limits() == []
    assert await db.fetchval("select bool_and(tags is null) from pgqueue.job")


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": 0}, {"rate": 5}, {"fair_by": 3}, {"fair_by": "nothing"}, {"window": 3}, {"ageing": -1},
        {"max_depth": 0}, {"timeout": 1, "soft_timeout": 2}, {"queue": "other"},
    ],
)  # fmt: skip
async def test_a_declaration_that_is_refused_leaves_the_one_before(
    pgq: PgQueue, db: Connection, work: None, wrong: dict[str, Any]
) -> None:
    pgq.queue("mail", slots=3, ageing=60)
    given: dict[str, Any] = {"slots": 7, "rate": Rate(1)} | wrong
    with pytest.raises(InvalidOptionError):
        pgq.queue("mail", **given)
    assert await held_back_by(pgq, db) == ["queue/mail"]
    [limit] = await pgq.limits()
    assert (limit.name, limit.slots) == ("queue/mail", 3)
    assert pgq.registry.ageing == {"mail": 60}
