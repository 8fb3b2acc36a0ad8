"""Split brain: a standby is promoted, and the old primary goes on taking writes, because nobody stops it.

Programs that reach both servers leave the old one. Until they do, what it acknowledges is lost, and jobs that
it hands out run on the new one as well. Only whoever promotes can keep that from happening.
"""

from __future__ import annotations

import asyncio
import time

from faults.checker import never_sent_is_never_there
from faults.clusters import Cluster, cluster, under_load
from faults.evidence import Evidence
from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.load import MIX
from faults.scenarios.common import exits
from faults.scenarios.failover import AS_ONE, followed, merged

LEFT_WITHIN = 10.0
"""Seconds after which programs that reach both servers use the new one alone."""
STARTED = """
    select job.id::text as id from pgqueue.job
    left join pgqueue.running on running.job_id = job.id
    where coalesce(job.started_at, running.started_at) > $1
"""
LAST_USE = """
    select extract(epoch from max(at) - $1::timestamptz)::float8 as seconds
    from (
        select created_at as at from pgqueue.job
        union all select started_at from pgqueue.job
        union all select renewed_at from pgqueue.lease
    ) as use
    where at > $1
"""
ITS_OWN = {**MIX, "transaction": 0, "cancelled": 0}
"""Without calls on a caller's own connection, which pgqueue does not choose, and those that miss a job."""
ENQUEUED = "select count(*) as count from pgqueue.job where created_at > $1"


async def run(size: Size) -> Report:
    """Promote the standby while the old primary is at work, or frozen until later."""
    return merged(
        [await _run(size, freezes=freezes) for freezes in {"short": (False,), "full": (False, True)}[size]]
    )


async def _run(size: Size, *, freezes: bool) -> Report:
    """Promote the standby; start programs that have seen neither server."""
    before, after = {"short": (1.0, 14.0), "full": (10.0, 40.0)}[size]
    async with (
        cluster(is_synchronous=False) as servers,
        laboratory(server=servers.primary, dsn=servers.dsn) as lab,
    ):
        await lab.crew(3, "--concurrency", "10")
        await lab.enqueuer(40, before + after, mix=ITS_OWN)
        await under_load(servers.primary)
        await asyncio.sleep(before)
        async with lab.disturbed("failover"):
            if freezes:
                servers.primary.freeze()
            await servers.standby.promote()
            promoted = time.monotonic()
            [row] = [thawed] = await servers.promoted.query("select clock_timestamp() as at")
            lab.server = servers.promoted
            await asyncio.sleep(LEFT_WITHIN)
            if freezes:
                # What it was asked before it froze, it does now.
                servers.primary.thaw()
                [thawed] = await servers.promoted.query("select clock_timestamp() as at")
                await asyncio.sleep(LEFT_WITHIN)
            left = [
                await _last_use(servers, thawed["at"]),
                await _sessions(servers, "of those that were there"),
            ]
            await lab.worker("--concurrency", "10")
            await lab.enqueuer(20, after, mix=ITS_OWN)
            # A newcomer that has its lease on the new one has found it, and leaves the old one.
            await lab.at_work(4)
            await asyncio.sleep(LEFT_WITHIN)
            left.append(await _sessions(servers, "of newcomers"))
        evidence = await lab.finish()
        made = Report("split_brain", followed(evidence, lab.workers[:3], promoted))
        made.violations = [
            each
            for rule in AS_ONE
            if rule is not never_sent_is_never_there
            for each in list(rule(evidence))[:3]
        ]
        made.figures += [*left, *await _on_old(servers, evidence, row["at"]), exits(lab)]
        return made


async def _last_use(servers: Cluster, promoted: object) -> Figure:
    """For how long the old primary was written to."""
    [row] = await servers.primary.query(LAST_USE, promoted)
    return Figure("the old primary was used for", row["seconds"] or 0.0, "s", LEFT_WITHIN)


async def _sessions(servers: Cluster, whose: str) -> Figure:
    return Figure(f"sessions left there, {whose}", await servers.sessions_on_old(), bar=0)


async def _on_old(servers: Cluster, evidence: Evidence, promoted: object) -> list[Figure]:
    """What the old primary was given after the promotion, and for how long."""
    started = {row["id"] for row in await servers.primary.query(STARTED, promoted)}
    [enqueued] = await servers.primary.query(ENQUEUED, promoted)
    twice = sum(row["id"] in started for row in await servers.promoted.query(STARTED, promoted))
    missing = {job for call in evidence.calls for job in call.ids} - evidence.jobs.keys()
    return [
        Figure("jobs enqueued there", enqueued["count"]),
        Figure("acknowledged enqueues lost", len(missing)),
        Figure("jobs that ran on both", twice),
    ]
