"""Decides which leases are lost, from what one worker has seen of them. Values only.

A lease that expires before a worker's eyes is lost: its worker has had the time of the lease to renew it, on
a server that was there. Nothing else proves that much at once. A lock that is free may be that of a worker
that has lost only its connection. A lease that had expired when this worker first looked, or looked again,
may be that of a worker that was cut off from the same server: it has outcomes to write, and renews the lease
within moments. And where the server's clock was set forward, every lease has expired, and every worker lives.
(The receipt of a job that a consumer has received is no such lease: it ends with its time, whatever happens.)

So such a lease must stay as it is for some time that this worker itself has watched. Time between two looks
that are far apart is hardly counted: who was away, or stopped, has watched nothing. None of it is forgotten,
though: a worker that always looks late must come to an end, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from pgqueue.store import DoubtfulLease

SILENCE: Final = 3.0
"""Seconds for which a process must have let go of its lock, unrenewed, before it is taken for dead."""
RENEWED_WITHIN: Final = 1.0
"""Seconds that a worker may take to renew its lease, on top of the third of its time after which it does."""
LONGEST: Final = 60.0
"""Seconds for which a lease is watched, at most."""
GAP: Final = 1.5
"""Seconds that count of the time between two looks, at most."""
DRIFT: Final = 1.0
"""Seconds by which the server's clock and this machine's may differ between two looks."""


class LeaseWatch:
    """What one worker has seen of the others' leases."""

    def __init__(self) -> None:
        self._looked_at: float | None = None
        self._clock: datetime | None = None
        self._since: datetime | None = None
        """The server's time from which on it has looked without a break."""
        self._seen: dict[UUID, tuple[datetime, float]] = {}
        """When each was last renewed, and for how many seconds it has stayed so."""
        self.pause: float | None = None
        """Seconds until one of them may be lost; None: none is watched."""

    def lost(
        self, doubtful: Iterable[DoubtfulLease], clock: datetime, now: float, *, has_lease: bool = True
    ) -> list[DoubtfulLease]:
        """Return those of *doubtful* leases that are lost, by the server's *clock* and the time *now* here.

        Who *has_lease* none may be cut off itself, and judges by no lock.
        """
        counted = self._look(clock, now)
        self._seen = {
            lease.id: (lease.renewed_at, seen[1] + counted)
            if (seen := self._seen.get(lease.id)) is not None and seen[0] == lease.renewed_at
            else (lease.renewed_at, 0.0)
            for lease in doubtful
        }
        lost, pauses = [], []
        for lease in doubtful:
            if lease.expires_at > clock and not has_lease:
                continue
            left = self._needs(lease, clock) - self._seen[lease.id][1]
            if left <= 0:
                lost.append(lease)
            else:
                pauses.append(left)
        self.pause = min(pauses, default=None)
        return lost

    def interrupt(self) -> None:
        """Take note that this worker was cut off, or failed: what happened meanwhile, it has not seen."""
        self._since = None

    def _look(self, clock: datetime, now: float) -> float:
        """Take note of a look; return the seconds that count of the time since the last one."""
        if self._looked_at is None or self._clock is None:
            gap = 0.0
            self._since = clock
        else:
            gap = now - self._looked_at
            drift = (clock - self._clock).total_seconds() - gap
            if self._since is None or gap > 2 * GAP or abs(drift) > DRIFT:
                self._since = clock
        self._looked_at, self._clock = now, clock
        return min(gap, GAP)

    def _needs(self, lease: DoubtfulLease, clock: datetime) -> float:
        """Return the seconds for which a lease must be watched before it is lost."""
        assert self._since is not None
        if lease.expires_at <= clock and (
            lease.is_receipt or lease.is_judged or lease.expires_at >= self._since
        ):
            return 0.0
        if lease.is_unlocked:
            return SILENCE
        # Both are bounded: by hand, any time can be written.
        third = (lease.expires_at - lease.renewed_at).total_seconds() / 3
        return min(LONGEST, max(SILENCE, third + RENEWED_WITHIN))
