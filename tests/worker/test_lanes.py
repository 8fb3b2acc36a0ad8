"""Which lanes a worker walks and from where; and that what waits for a time costs it nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgqueue.options.run_time import Settings
from pgqueue.store import Lane
from pgqueue.worker.claim.lanes import LATE, WALK_LIMIT, LaneBook


def book_of(*priorities: int) -> LaneBook:
    """Return a book of lanes 1, 2, ... that are all believed to have jobs."""
    book = LaneBook()
    book.learn(Lane(number, "default", priority, "") for number, priority in enumerate(priorities, 1))
    for lane_id in book.ids:
        book.wake(lane_id)
    return book


def test_a_new_book_believes_in_no_jobs() -> None:
    book = LaneBook()

    assert not book.has_active
    assert book.walk() == []


def test_higher_priorities_are_walked_first() -> None:
    book = book_of(0, 10, -5)

    assert [lane_id for lane_id, _ in book.walk()] == [2, 1, 3]


def test_lanes_of_one_priority_take_turns() -> None:
    book = book_of(0, 0, 0)

    firsts = [book.walk()[0][0] for _ in range(6)]

    assert sorted(firsts) == [1, 1, 2, 2, 3, 3]


def test_a_walk_is_bounded_and_gets_round() -> None:
    book = book_of(*[0] * (3 * WALK_LIMIT))

    walks = [book.walk() for _ in range(3 * WALK_LIMIT)]

    assert all(len(walk) == WALK_LIMIT for walk in walks)
    assert {lane_id for walk in walks for lane_id, _ in walk} == set(book.ids)


def test_a_lane_that_is_not_known_is_not_walked() -> None:
    book = book_of(0)

    book.wake(99)

    assert [lane_id for lane_id, _ in book.walk()] == [1]


def test_a_claim_below_its_limit_exhausts_all_lanes_that_it_walked() -> None:
    book = book_of(1, 0)

    book.claimed(book.walk(), [(1, 10)], limit=5)

    assert not book.has_active


def test_a_full_claim_exhausts_only_the_lanes_before_the_last_that_gave() -> None:
    book = book_of(2, 1, 0)

    book.claimed(book.walk(), [(2, 1), (2, 2)], limit=2)

    assert [lane_id for lane_id, _ in book.walk()] == [2, 3]


def test_the_next_claim_starts_a_little_below_the_last_position() -> None:
    book = book_of(0)

    book.claimed(book.walk(), [(1, 10_000), (1, 10_001)], limit=2)

    assert book.walk() == [(1, 10_001 - LATE)]


@given(st.lists(st.integers(min_value=1, max_value=10**9), min_size=1))
def test_a_remembered_position_never_goes_back_by_claiming(positions: list[int]) -> None:
    book = book_of(0)
    before = 0

    for position in positions:
        book.claimed(book.walk(), [(1, position)], limit=1)
        [(_, after)] = book.walk()
        assert after >= before
        assert after >= position - LATE
        before = after


def test_a_sweep_corrects_a_position_that_was_too_high() -> None:
    book = book_of(0)
    book.claimed(book.walk(), [(1, 10_000)], limit=2)

    book.swept({1: 17}, book.ids)

    assert book.walk() == [(1, 17)]


def test_what_is_announced_while_a_claim_or_a_sweep_looks_is_walked_again() -> None:
    book = book_of(0, 0)

    walk = book.walk()
    book.wake(2)
    book.claimed(walk, [], limit=5)
    assert [lane_id for lane_id, _ in book.walk()] == [2]

    book.learn_page(list(book.lanes.values()))
    book.wake(1)
    book.swept({}, book.ids)
    assert [lane_id for lane_id, _ in book.walk()] == [1]


def test_a_sweep_says_which_lanes_have_jobs() -> None:
    book = book_of(0, 0, 0)

    book.learn_page(list(book.lanes.values()))
    book.swept({2: 5}, book.ids)

    assert [lane_id for lane_id, _ in book.walk()] == [2]


def test_a_sweep_leaves_whose_turn_it_is_as_it_was() -> None:
    book = book_of(*[0] * (3 * WALK_LIMIT))

    firsts = []
    for _ in range(3 * WALK_LIMIT):
        book.swept(dict.fromkeys(book.ids, 1), book.ids)
        firsts.append(book.walk()[0][0])

    assert sorted(firsts) == book.ids


def test_a_lane_that_was_exhausted_and_is_woken_waits_for_its_turn() -> None:
    book = book_of(0, 0, 0)
    walk = book.walk()

    book.claimed(walk[:1], [], limit=5)
    book.wake(walk[0][0])

    assert [lane_id for lane_id, _ in book.walk()][-1] == walk[0][0]


def test_a_paused_lane_is_walked_no_more_and_the_others_are() -> None:
    book = LaneBook()
    book.learn([Lane(1, "mail", 0, ""), Lane(2, "default", 0, "")])
    book.swept({1: 5, 2: 5}, book.ids)

    book.heed(Settings(paused_queues=frozenset({"mail"})))

    assert [lane_id for lane_id, _ in book.walk()] == [2]


@given(
    st.lists(st.integers(min_value=-3, max_value=3), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(min_value=1, max_value=20), st.booleans()), max_size=40),
)
def test_active_are_the_lanes_that_were_woken_and_not_exhausted_since(
    priorities: list[int], steps: list[tuple[int, bool]]
) -> None:
    book = LaneBook()
    book.learn(Lane(number, "default", priority, "") for number, priority in enumerate(priorities, 1))
    believed: set[int] = set()

    for lane_id, has_jobs in steps:
        if not book.knows(lane_id):
            continue
        if has_jobs:
            book.wake(lane_id)
            believed.add(lane_id)
        else:
            book.claimed([(lane_id, 0)], [], limit=1)
            believed.discard(lane_id)
        walked = [lane_id for lane_id, _ in book.walk()]

        assert sorted(walked) == sorted(believed)
        assert [priorities[each - 1] for each in walked] == sorted(
            (priorities[each - 1] for each in walked), reverse=True
        )
        assert book.has_active == bool(believed)
