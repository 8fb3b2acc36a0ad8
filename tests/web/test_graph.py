"""Drawings of workflows: layers, what is folded, and that nothing overlaps. Pure functions on rows."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue.model.jobs import JobStatus
from pgqueue.model.workflows import WorkflowEdge, WorkflowGroup
from pgqueue.web.pages.graph import MOST_BOXES, Box, draw, layer

pytestmark = pytest.mark.contract("P7.22")

SUCCEEDED, FAILED, BLOCKED = JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.BLOCKED


def job(number: int, task: str = "work", status: JobStatus = SUCCEEDED) -> WorkflowGroup:
    return WorkflowGroup(UUID(int=number), task, {status: 1})


def edges(*pairs: tuple[int, int]) -> list[WorkflowEdge]:
    return [WorkflowEdge(UUID(int=up), UUID(int=down), 0) for up, down in pairs]


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def test_a_layer_is_that_of_the_longest_path() -> None:
    # 1 leads to 4 at once, and by 2 and 3.
    assert layer([1, 2, 3, 4, 5], [(1, 2), (2, 3), (3, 4), (1, 4)]) == [[1, 5], [2], [3], [4]]


def test_a_circle_which_cannot_be_is_drawn_all_the_same() -> None:
    drawing = draw([job(1), job(2), job(3)], edges((1, 2), (2, 3), (3, 2)))

    assert len(drawing.boxes) == 3


def test_a_chord_of_ten_thousand_is_two_boxes_with_counts() -> None:
    members = [job(n, "square", FAILED if n % 100 == 0 else SUCCEEDED) for n in range(1, 10_001)]
    body = job(20_000, "add_up", BLOCKED)

    drawing = draw([*members, body], edges(*((n, 20_000) for n in range(1, 10_001))))

    square, add_up = drawing.boxes
    assert (square.label, square.total, square.job) == ("square", 10_000, None)
    assert square.counts == {SUCCEEDED: 9_900, FAILED: 100}
    assert square.status is FAILED
    assert (add_up.label, add_up.job, add_up.status) == ("add_up", body.id, BLOCKED)
    assert add_up.y > square.y + square.height
    assert len(drawing.lines) == 1


def test_chains_that_are_alike_are_one_chain_and_others_stand_beside_it() -> None:
    chains = [(n, n + 100) for n in range(1, 51)]
    jobs = [*(job(n, "fetch") for n, _ in chains), *(job(n, "store") for _, n in chains)]
    other, end = job(500, "fetch"), job(501, "end")
    pairs = [*chains, *((n, 501) for _, n in chains), (500, 501)]

    drawing = draw([*jobs, other, end], edges(*pairs))

    assert Counter((box.label, box.total) for box in drawing.boxes) == Counter(
        [("fetch", 50), ("store", 50), ("fetch", 1), ("end", 1)]
    )


def test_a_group_behind_a_group_goes_through_a_ring() -> None:
    pairs = [(1, 50), (2, 50), (50, 51), (50, 52)]

    drawing = draw([job(1), job(2), job(51, "next"), job(52, "next")], edges(*pairs))

    [ring] = [box for box in drawing.boxes if not box.label]
    assert ring.status is None
    assert len(drawing.lines) == 4


def test_a_chain_of_a_thousand_ends_in_one_box_for_the_rest() -> None:
    drawing = draw([job(n) for n in range(1, 1001)], edges(*((n, n + 1) for n in range(1, 1000))))

    assert len(drawing.boxes) <= MOST_BOXES
    assert sum(box.total for box in drawing.boxes) == 1000
    assert len(drawing.lines) == len(drawing.boxes) - 1


GRAPHS = st.integers(1, 40).flatmap(
    lambda size: st.tuples(
        st.lists(st.sampled_from(["a", "b"]), min_size=size, max_size=size),
        st.lists(st.tuples(st.integers(1, size), st.integers(1, size)), max_size=80),
    )
)


@given(GRAPHS)
def test_whatever_waits_for_whatever_each_job_is_in_one_box_below_those_it_waits_for(
    graph: tuple[list[str], list[tuple[int, int]]],
) -> None:
    tasks, pairs = graph
    forward = sorted({(up, down) for up, down in pairs if up < down})

    drawing = draw([job(n, task) for n, task in enumerate(tasks, 1)], edges(*forward))

    assert sum(box.total for box in drawing.boxes) == len(tasks)
    for place, box in enumerate(drawing.boxes):
        assert 0 <= box.x <= drawing.width - box.width
        assert 0 <= box.y <= drawing.height - box.height
        assert not any(overlap(box, other) for other in drawing.boxes[place + 1 :])
    alone = {box.job: box for box in drawing.boxes if box.job is not None}
    for up, down in forward:
        above, below = alone.get(UUID(int=up)), alone.get(UUID(int=down))
        if above and below:
            assert above.y + above.height < below.y
