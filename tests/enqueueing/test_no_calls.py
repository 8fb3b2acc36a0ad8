"""What is no call of a task is refused with an error that says what to call."""

from __future__ import annotations

from typing import Any

import pytest

from pgqueue import PgQueue, chain, group
from pgqueue.errors import InvalidWorkflowError


@pytest.mark.contract("W9")
async def test_what_is_no_call_is_refused_and_enqueues_nothing(pgq: PgQueue) -> None:
    @pgq.task
    async def work(number: int) -> int:
        return number

    pgq.queue("limited", max_depth=5)
    builder = pgq.workflow("flow")
    no_calls: list[Any] = [chain(work.s(1), work.s()), group(work.s(1)), builder, work, "work", None]
    for given in no_calls:
        with pytest.raises(InvalidWorkflowError, match=r"task\.s.*pgq\.enqueue_workflow"):
            await pgq.enqueue(given)
        with pytest.raises(InvalidWorkflowError, match=r"task\.s.*pgq\.enqueue_workflow"):
            await pgq.enqueue_many([work.s(1), given])
        with pytest.raises(InvalidWorkflowError, match=r"task\.s.*pgq\.enqueue_workflow"):
            await pgq.enqueue(given, key_wait=1)

    assert (await pgq.jobs()).jobs == []
