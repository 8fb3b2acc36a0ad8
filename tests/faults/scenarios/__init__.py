"""The scenarios: a file for each fault, whose `run` disturbs processes and servers in this way alone."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from faults.figures import Report, Size
from faults.scenarios import (
    backends,
    block,
    bouncer,
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
    poison,
    pooler,
    restart,
    silence,
    split_brain,
    stop,
    supervisor,
    switchover,
    upgrade,
)

Scenario = Callable[[Size], Coroutine[Any, Any, Report]]

SCENARIOS: dict[str, Scenario] = {
    "kill": kill.run,
    "poison": poison.run,
    "stop": stop.run,
    "block": block.run,
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
    "split_brain": split_brain.run,
    "upgrade": upgrade.run,
    "disk": disk.run,
    "backends": backends.run,
    "connections": connections.run,
    "clock": clock.run,
    "supervisor": supervisor.run,
    "pooler": pooler.run,
    "bouncer": bouncer.run,
}
"""By the names of their faults."""
