"""A handler that blocks the loop past its hard limit: its process is replaced, and no other job pays."""

from __future__ import annotations

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.scenarios.common import losses, report

BLOCKED = 20.0
"""Seconds that a handler would block, if it were let."""
UNCHARGED = frozenset({"released"})


async def run(size: Size) -> Report:
    """Block processes of a supervisor while other jobs run in them."""
    rounds = {"short": 1, "full": 4}[size]
    async with laboratory() as lab:
        await lab.worker("--concurrency", "10", "--processes", "2", restart_after=None)
        await lab.at_work(2)
        for number in range(rounds):
            # More than one process takes: the other one has room for what blocks.
            await lab.enqueue("plain", 15, seconds=6, first=number * 100)
            await lab.until_running(15)
            async with lab.disturbed("block"):
                await lab.enqueue("block", 1, seconds=BLOCKED, first=number * 100 + 50)
                await lab.drain()
        evidence = await lab.finish()
        jobs = evidence.jobs.values()
        ended = sum(job.reason == "hard_timeout" for job in jobs)
        others = [each for job in jobs if job.task == "plain" for each in job.attempts]
        return report(
            "block",
            lab,
            evidence,
            Figure("blocking jobs ended at their limit", ended, bar=rounds, is_least=True),
            Figure("jobs returned", len(others), bar=1, is_least=True),
            Figure("attempts of others charged", sum(e.reason not in UNCHARGED for e in others), bar=0),
            losses(evidence),
        )
