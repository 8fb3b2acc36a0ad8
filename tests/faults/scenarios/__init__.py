"""The scenarios: a file for each fault, whose `run` disturbs processes and servers in this way alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from faults.figures import Report, Size
from faults.scenarios import (
    backends,
    clock,
    connections,
    crash,
    disk,
    failover,
    freeze,
    host,
    kill,
    login,
    outage,
    pooler,
    restart,
    silence,
    supervisor,
    switchover,
)

Scenario = Callable[[Size], Awaitable[Report]]

SCENARIOS: dict[str, Scenario] = {
    "kill": kill.run,
    "freeze": freeze.run,
    "restart": restart.run,
    "crash": crash.run,
    "outage": outage.run,
    "silence": silence.run,
    "login": login.run,
    "host": host.run,
    "failover": failover.run,
    "failover_asynchronous": failover.run_asynchronous,
    "switchover": switchover.run,
    "disk": disk.run,
    "backends": backends.run,
    "connections": connections.run,
    "clock": clock.run,
    "supervisor": supervisor.run,
    "pooler": pooler.run,
}
"""By the names of their faults."""
