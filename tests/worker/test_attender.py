"""In what order notes are attended to: nobody's wait for those of others, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pgqueue.events.observers import Observers
from pgqueue.store.workflow_rows import Attended
from pgqueue.upkeep.attending import LIMIT
from pgqueue.worker.outcome.attender import MOST, Attender

OWN = range(1_000_000, 1_000_000 + 3 * MOST)


class Notes:
    """A store, and the way to it, that takes any note, and keeps what it was given at once."""

    def __init__(self) -> None:
        self.taken: list[list[int]] = []

    @asynccontextmanager
    async def use(self) -> AsyncIterator[None]:
        """See Link."""
        yield

    async def attend(self, _: None, notes: Sequence[int], most: int) -> Attended:
        """See Store."""
        assert 0 < len(notes) <= most
        self.taken.append(list(notes))
        return Attended(len(notes), (), (), (), ())


async def attended(found: Sequence[int], own: Sequence[int]) -> list[list[int]]:
    """Return what is attended to at once, of notes that were found and of those of the worker's own jobs."""
    notes: Any = Notes()
    attender = Attender(notes, notes, Observers())
    attender.add_found(found)
    attender.add(own)
    was_idle = attender.is_idle
    running = asyncio.create_task(attender.run())
    await attender.flush()
    running.cancel()
    await asyncio.wait([running])
    assert not was_idle
    assert attender.is_idle
    taken: list[list[int]] = notes.taken
    return taken


async def test_own_notes_do_not_wait_for_those_that_were_found() -> None:
    found = range(LIMIT)

    taken = await attended(found, OWN[:10])

    assert taken[0] == [*OWN[:10], *found[: MOST - 10]]
    assert [note for notes in taken for note in notes if note in found] == [*found]


async def test_found_notes_do_not_wait_for_all_own_ones() -> None:
    found = range(MOST)

    taken = await attended(found, OWN)

    assert taken[0] == [*OWN[: MOST // 2], *found[: MOST // 2]]
    assert sorted(note for notes in taken for note in notes) == [*found, *OWN]
    assert len(taken) == (len(found) + len(OWN)) / MOST


async def test_a_note_that_is_own_and_was_found_is_attended_to_once() -> None:
    taken = await attended(range(10), range(5, 15))

    assert [sorted(set(notes)) for notes in taken] == [[*range(15)]]
