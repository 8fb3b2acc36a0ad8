"""Divides the outcomes that have collected into batches, of which each is one statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Final

from pgqueue.model.outcomes import Succeeded
from pgqueue.retry.undecodable import is_undecodable
from pgqueue.worker.attempt.attempt import RunningAttempt

MAX_LENGTH: Final = 16 * 1024 * 1024
"""Characters of results in one statement."""


def groups(attempts: Sequence[RunningAttempt]) -> Collection[Sequence[RunningAttempt]]:
    """Return attempts by what they share that one statement can end: the kind of outcome and the lease.

    After a lost lease, outcomes of the old may still be here.
    """
    found: defaultdict[object, list[RunningAttempt]] = defaultdict(list)
    for attempt in attempts:
        outcome = attempt.outcome
        is_special = outcome.result is None if type(outcome) is Succeeded else is_undecodable(outcome)
        # The number: the hash of a UUID itself is made in Python, each time.
        found[attempt.lease_id.int, type(outcome), is_special].append(attempt)
    return found.values()


def halves(batch: Sequence[RunningAttempt]) -> list[Sequence[RunningAttempt]]:
    """Divide a batch in two."""
    half = len(batch) // 2
    return [batch[:half], batch[half:]]


def parts(batch: Sequence[RunningAttempt]) -> list[Sequence[RunningAttempt]]:
    """Divide a batch that cannot be one statement."""
    if len({attempt.claimed.id for attempt in batch}) < len(batch):
        # A server that crashed forgot a claim, and the job was claimed again under the same lease before this
        # was written. One of the two outcomes counts, and the other is fenced off.
        first = {attempt.claimed.id: attempt for attempt in reversed(batch)}
        others = [attempt for attempt in batch if first[attempt.claimed.id] is not attempt]
        return [list(first.values()), others]
    if len(batch) > 1 and _length(batch) > MAX_LENGTH:
        return halves(batch)
    return [batch]


def _length(batch: Sequence[RunningAttempt]) -> int:
    """Return the characters of the results of outcomes of one kind."""
    # One kind: see groups.
    outcomes: list[Any] = [attempt.outcome for attempt in batch]
    has_results = isinstance(outcomes[0], Succeeded) and outcomes[0].result is not None
    return sum([len(outcome.result) for outcome in outcomes]) if has_results else 0
