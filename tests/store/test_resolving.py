"""Host names are resolved in threads that a child of this process does not lack."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import asyncio, os, time
from pgqueue.database.resolving import resolve_apart

async def find():
    resolve_apart()
    await asyncio.wait_for(asyncio.get_running_loop().getaddrinfo("localhost", 5432), 60)

asyncio.run(find())
# The thread that did so waits for more by then.
time.sleep(0.2)
child = os.fork()
if child == 0:
    asyncio.run(find())
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_that_was_forked_resolves_names_in_threads_of_its_own() -> None:
    program = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(program, capture_output=True, text=True, check=True, env=os.environ.copy())

    assert ran.stdout == "7\n"
