"""How much of pgqueue a single enqueue passes through: calls of its functions, modules, changes of room.

Counts what the interpreter calls for one enqueue on an open PgQueue, everything warm: each start and each
resumption of a function, coroutine or generator of pgqueue's own. A room is a file or folder at the top of
the package; it changes where a function of one room calls one of another. What other packages call for it is
counted beside. Figures of code, not of a machine: each run gives the same.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import common

import pgqueue
from pgqueue import PgQueue, Task

PACKAGE = str(Path(pgqueue.__file__).parent)


class Calls:
    """Counts the calls between `start` and `stop`."""

    def __init__(self) -> None:
        self.modules: Counter[str] = Counter()
        """Calls of functions of pgqueue, by module."""
        self.changes = 0
        """Those that came from another room."""
        self.foreign = 0
        """Calls of functions of other packages."""

    def start(self) -> None:
        """Begin to count."""
        sys.setprofile(self._see)

    def stop(self) -> None:
        """End counting."""
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not self._is_caused_by_enqueue(frame):
            return
        module = module_of(frame.f_code)
        if module is None:
            self.foreign += 1
            return
        self.modules[module] += 1
        caller = frame.f_back
        while caller is not None and module_of(caller.f_code) is None:
            caller = caller.f_back
        if caller is not None and room_of(module_of(caller.f_code) or "") != room_of(module):
            self.changes += 1

    @staticmethod
    def _is_caused_by_enqueue(frame: FrameType) -> bool:
        """Whether the frame is below the caller's, and not of a loop in the background."""
        caller = frame.f_back
        while caller is not None:
            if caller.f_code is enqueue_one.__code__:
                return True
            caller = caller.f_back
        return False


def module_of(code: CodeType) -> str | None:
    """Return the path of a module of pgqueue, below the package; None: it is none of them."""
    return code.co_filename.removeprefix(PACKAGE)[1:] if code.co_filename.startswith(PACKAGE) else None


def room_of(module: str) -> str:
    """Return the room that a module is, or is in."""
    return module.partition("/")[0].removesuffix(".py")


async def enqueue_one(task: Task[[str, int], None], number: int) -> None:
    """Enqueue one job."""
    await task.enqueue("user@example.com", number)


async def count(dsn: str) -> tuple[common.Figures, Counter[str]]:
    """Enqueue one job and count."""
    pgq = PgQueue(dsn)

    @pgq.task
    async def noop(to: str, number: int) -> None:
        """Do nothing."""

    async with pgq:
        for number in range(3):
            await enqueue_one(noop, number)
        calls = Calls()
        calls.start()
        await enqueue_one(noop, 3)
        calls.stop()
    figures: common.Figures = {
        "calls": calls.modules.total(),
        "modules": len(calls.modules),
        "changes_of_room": calls.changes,
        "calls_of_other_packages": calls.foreign,
    }
    return figures, calls.modules


def main() -> None:
    """Read the command line, count and print."""
    parser = common.arguments(__doc__, rounds=None)
    options = parser.parse_args()

    async def benchmark() -> None:
        with common.server(options.dsn) as server:
            async with common.database(server) as dsn:
                figures, modules = await count(dsn)
            machine = await common.describe(server, options.loop)
        common.report("calls of one enqueue", machine, [figures], as_json=options.json)
        if not options.json:
            for module, calls in modules.most_common():
                print(f"    {calls:>4}  {module}")

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
