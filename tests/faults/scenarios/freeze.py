"""SIGSTOP and SIGCONT of workers: what they say of jobs that others have been given since is not heard."""

from __future__ import annotations

import asyncio

from faults.checker import no_zombie_is_heard
from faults.figures import Figure, Report, Size
from faults.laboratory import Laboratory, laboratory
from faults.processes import WorkerProcess
from faults.reruns import zombies
from faults.scenarios.common import lost, report

LEASE = 2.0
"""Seconds; frozen workers lose it soon."""
FROZEN = 8.0
"""Seconds: until their jobs have been started elsewhere."""
JOB = 4.0
"""Seconds that a handler takes: it is over when its worker goes on."""
TASKS = ("plain", "money", "stepper", "plain", "money")


async def run(size: Size) -> Report:
    """Freeze half of the workers for longer than their lease, again and again; count their late outcomes."""
    crew, slots, rounds = {"short": (2, 10, 1), "full": (4, 100, 6)}[size]
    async with laboratory() as lab:
        workers = await lab.crew(crew, "--concurrency", str(slots), "--lease-ttl", str(LEASE))
        for number in range(rounds):
            half = workers[: crew // 2] if number % 2 else workers[crew // 2 :]
            await _freeze(lab, half, slots * crew, number * slots * crew)
        evidence = await lab.finish()
        late = zombies(evidence)
        return report(
            "freeze",
            lab,
            evidence,
            Figure("zombies accepted", len(list(no_zombie_is_heard(evidence))), bar=0),
            Figure("zombies", len(late), bar=1000 if size == "full" else 5, is_least=True),
            Figure("zombies that came to their end", sum(run.how == "ok" for run in late)),
            lost(evidence),
        )


async def _freeze(lab: Laboratory, workers: list[WorkerProcess], slots: int, first: int) -> None:
    for place, task in enumerate(TASKS):
        share = slots // len(TASKS)
        await lab.enqueue(task, share, seconds=JOB, first=first + place * share)
    await lab.until_running(slots - slots % len(TASKS))
    for worker in workers:
        worker.freeze()
    await asyncio.sleep(FROZEN)
    for worker in workers:
        worker.thaw()
    await lab.drain()
