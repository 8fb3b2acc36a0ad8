"""Programs on a terminal of their own: what they show, keys, and windows of any size."""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")

OF_ITS_OWN: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal the program's own: so Ctrl-C and a new size are signals to it."""


class Terminal:
    """A program of `pgqueue` on a terminal."""

    def __init__(self, *arguments: str, lines: int = 40, columns: int = 120) -> None:
        self.screen, device = pty.openpty()
        self.device = device
        self.modes = termios.tcgetattr(device)
        self._size(lines, columns)
        environment = {**os.environ, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", OF_ITS_OWN, sys.executable, "-m", "pgqueue", *arguments],
            stdin=device,
            stdout=device,
            stderr=device,
            env=environment,
            start_new_session=True,
        )
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def _size(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.device, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, lines: int, columns: int) -> None:
        """Give the window another size, as its program is told."""
        self._size(lines, columns)

    @property
    def frame(self) -> list[str]:
        """The lines of what was drawn last, as a whole."""
        *_, drawn = self.shown.rsplit("\x1b[H", 2)[:-1] or [""]
        return [CONTROL.sub("", line).rstrip() for line in drawn.replace("\r", "").split("\n")]

    async def shows(self, text: str) -> None:
        """Wait until *text* has been on the screen."""
        await self._read_until(lambda: text in self.shown)

    async def looks(self, is_right: Callable[[list[str]], object]) -> list[str]:
        """Wait for a frame that is right, and return it."""
        await self._read_until(lambda: is_right(self.frame))
        return self.frame

    async def _read_until(self, is_reached: Callable[[], object]) -> None:
        with anyio.move_on_after(180) as waiting:
            while not is_reached():
                await anyio.wait_readable(self.screen)
                # A character may come in two parts.
                self.shown += self._decoder.decode(os.read(self.screen, 65536))
        assert not waiting.cancelled_caught, self.frame

    def press(self, keys: bytes) -> None:
        """Send keys."""
        os.write(self.screen, keys)

    async def ended(self) -> int:
        """Wait for the program, reading on: a full terminal would hold it up."""
        await self.shows("\x1b[?1049l")
        return await asyncio.to_thread(self.process.wait, 180)

    def close(self) -> None:
        """End the program, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.device)
        os.close(self.screen)


@asynccontextmanager
async def on_terminal(*arguments: str, lines: int = 40, columns: int = 120) -> AsyncIterator[Terminal]:
    """Run a program on a terminal, and end it."""
    terminal = Terminal(*arguments, lines=lines, columns=columns)
    try:
        yield terminal
    finally:
        terminal.close()
