"""Which jobs run apart: those whose workers were lost twice while they ran. Values only.

A job that kills its process takes along whatever runs beside it, and nobody can tell which one it was. So a
loss beside others is no job's fault; a job that was lost twice is under suspicion, and runs alone in its
worker until it ends. Only a loss that it had alone counts towards its `max_losses`. A single loss is not
enough, because machines are lost, too, and their jobs must not queue up for it.

Suspects that wait for their turn are held as prefetched jobs are: an idle worker may take them over, and if
this worker is lost, they have lost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from pgqueue.store import Claimed

SUSPICIOUS: Final = 2
"""Losses after which a job runs apart."""


class Suspects:
    """The suspects that one worker has claimed."""

    def __init__(self) -> None:
        self.claimed: list[Claimed] = []
        """Claimed as started jobs, and not started here."""
        self.waiting: list[UUID] = []
        """Held until the worker is empty."""
        self.is_running = False
        """Whether one of them runs, alone."""

    @property
    def ids(self) -> list[UUID]:
        """Those that the worker holds and that have not started."""
        return [*(job.id for job in self.claimed), *self.waiting]

    @property
    def are_there(self) -> bool:
        """Whether the worker must not start anything else."""
        return self.is_running or bool(self.waiting or self.claimed)

    def sort_out(self, jobs: Sequence[Claimed]) -> Sequence[Claimed]:
        """Keep the suspects among *jobs*, which were claimed, and return the others."""
        if all(job.losses < SUSPICIOUS for job in jobs):
            return jobs
        self.claimed += [job for job in jobs if job.losses >= SUSPICIOUS]
        return [job for job in jobs if job.losses < SUSPICIOUS]

    def sort_out_prefetched(self, jobs: Iterable[tuple[UUID, int]]) -> list[UUID]:
        """Keep the suspects among prefetched jobs (id, losses), and return the ids of the others."""
        others: list[UUID] = []
        for job_id, losses in jobs:
            (others if losses < SUSPICIOUS else self.waiting).append(job_id)
        return others

    def forget(self) -> None:
        """Forget those that have not started: the lease that they were claimed under is gone."""
        self.claimed, self.waiting = [], []
