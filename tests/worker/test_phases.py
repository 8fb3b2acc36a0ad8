"""An attempt goes forward through its phases, and never back."""

from __future__ import annotations

from itertools import pairwise
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.claimed import claimed_job

from pgqueue.store import Lane
from pgqueue.worker.attempt.attempt import Phase, RunningAttempt

WAYS = [
    (Phase.RUNNING, Phase.OVER),
    (Phase.RUNNING, Phase.CONCLUDING, Phase.OVER),
    (Phase.OVER,),
]
"""What an attempt can go through after it was claimed: the last of them was not to run."""

STEPS = {step for way in WAYS for step in pairwise((Phase.CLAIMED, *way))}


def attempt_in(*phases: Phase) -> RunningAttempt:
    """Return an attempt that has gone through *phases*."""
    lane = Lane(1, "default", 0, "")
    attempt = RunningAttempt(claimed_job(), None, None, lane, uuid4(), "worker", None)  # type: ignore[arg-type]
    for phase in phases:
        attempt.advance(phase)
    return attempt


@pytest.mark.parametrize("way", WAYS)
def test_an_attempt_goes_all_the_way(way: tuple[Phase, ...]) -> None:
    assert attempt_in(*way).phase is Phase.OVER


@given(st.sampled_from(WAYS), st.integers(min_value=0, max_value=3), st.sampled_from(Phase))
def test_it_enters_no_phase_that_cannot_follow(way: tuple[Phase, ...], length: int, wanted: Phase) -> None:
    attempt = attempt_in(*way[:length])
    before = attempt.phase

    if (before, wanted) in STEPS:
        attempt.advance(wanted)
        assert attempt.phase is wanted
    else:
        with pytest.raises(RuntimeError, match=f"is {before.name.lower()} and cannot become"):
            attempt.advance(wanted)
        assert attempt.phase is before


@pytest.mark.parametrize("way", WAYS)
def test_it_remembers_whether_it_was_started(way: tuple[Phase, ...]) -> None:
    seen = [attempt_in(*way[:length]).was_started for length in range(len(way) + 1)]

    assert seen == [False, *([Phase.RUNNING in way] * len(way))]
