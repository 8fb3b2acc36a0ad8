"""The server's clock takes a step, beyond the leases and back: nothing is rescued that is alive."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from faults.figures import Report, Size
from faults.laboratory import laboratory
from faults.scenarios.common import exits, losses, lost, report
from faults.servers import laboratory_server

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
STEPS = {"short": ("+1h", "+0"), "full": ("+1h", "+0", "+1d", "-1h", "+0")}
LAST = {"short": "+1h", "full": "+1d"}
"""As far ahead as ever: a job that was to wait a second, by a clock that was ahead, waits for that time."""


async def run(size: Size) -> Report:
    """Put the server's clock forward and back while jobs run."""
    if not LIBRARIES:
        return Report("clock", impossible="libfaketime is not installed (Debian: `apt-get install faketime`)")
    async with laboratory_server() as server:
        clock = server.data / "clock"
        clock.write_text("+0")
        await server.stop()
        server.environment = {
            **os.environ,
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        await server.start()
        async with laboratory(server=server) as lab:
            lab.note("clock_steps")
            await lab.crew(3, "--concurrency", "10")
            await lab.enqueuer(40, 3 + 10 * len(STEPS[size]))
            async with lab.disturbed("clock"):
                for step in STEPS[size]:
                    await lab.enqueue("plain", 10, seconds=6)
                    await lab.until_running(10)
                    clock.write_text(step)
                    await asyncio.sleep(8)
                clock.write_text(LAST[size])
            evidence = await lab.finish()
            return report("clock", lab, evidence, lost(evidence), exits(lab), losses(evidence))
