"""The test kit: databases in milliseconds, jobs run in the test, time that need not be waited for.

`pytest` finds its fixtures by itself (`pytest_pgqueue`); all that is here works without it, too.
"""

from pgqueue.testing.asserting import assert_enqueued
from pgqueue.testing.clock import Clock
from pgqueue.testing.databases import Databases
from pgqueue.testing.draining import drain
from pgqueue.testing.inline import inline
from pgqueue.testing.opening import using
from pgqueue.testing.rerun import runs_twice
from pgqueue.testing.servers import running_server

__all__ = [
    "Clock",
    "Databases",
    "assert_enqueued",
    "drain",
    "inline",
    "running_server",
    "runs_twice",
    "using",
]
