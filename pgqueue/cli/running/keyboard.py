"""Reads single keys from the terminal, and gives it back as it was."""

from __future__ import annotations

import os
import sys
import termios
import tty
from asyncio import TimerHandle, get_running_loop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

ESCAPE: Final = b"\x1b"
SEQUENCES: Final = {
    b"[A": "up", b"[B": "down", b"[5~": "pageup", b"[6~": "pagedown", b"[H": "home", b"[F": "end",
    b"[1~": "home", b"[4~": "end", b"[7~": "home", b"[8~": "end", b"[Z": "backtab",
    # Terminals in application mode.
    b"OA": "up", b"OB": "down", b"OH": "home", b"OF": "end",
}  # fmt: skip
"""What terminals send after an escape, and the key that it is."""
PLAIN: Final = {b"\t": "tab", b"k": "up", b"j": "down", b" ": "pagedown", b"g": "home", b"G": "end"}
ALONE_AFTER: Final = 0.1
"""Seconds after which an escape is the key itself: a sequence arrives at once, if in pieces."""
END_OF_INPUT: Final = "end of input"


def split(received: bytes) -> tuple[list[str], bytes]:
    """Return the keys in what a terminal has sent, and what may be the beginning of another."""
    keys = []
    while received:
        if not received.startswith(ESCAPE):
            one, received = received[:1], received[1:]
            keys.append(PLAIN.get(one, one.decode("ascii", "replace")))
            continue
        after = received[1:]
        if not after or after in (b"[", b"O"):
            return keys, received
        if after[:1] not in (b"[", b"O"):
            keys.append("escape")
            received = after
            continue
        # A sequence ends with the first letter or tilde behind its introducer.
        end = next((at for at in range(1, len(after)) if 0x40 <= after[at] <= 0x7E), None)
        if end is None:
            return (keys, received) if len(after) < 16 else (keys, b"")
        keys.append(SEQUENCES.get(after[: end + 1], "unknown"))
        received = after[end + 1 :]
    return keys, b""


@contextmanager
def on_keys(react: Callable[[str], object]) -> Iterator[None]:
    """Call *react* with the name of each key that is pressed, if there is a keyboard.

    Names: "up", "pagedown", "tab", "escape", ..., and the character itself for others.
    """
    if not sys.stdin.isatty():
        yield
        return
    keyboard, loop = sys.stdin.fileno(), get_running_loop()
    begun = b""
    alone: TimerHandle | None = None

    def read() -> None:
        nonlocal begun, alone
        try:
            received = os.read(keyboard, 1024)
        except OSError:
            # The terminal is gone.
            received = b""
        if alone is not None:
            alone.cancel()
            alone = None
        if not received:
            loop.remove_reader(keyboard)
            react(END_OF_INPUT)
            return
        keys, begun = split(begun + received)
        for key in keys:
            react(key)
        if begun:
            alone = loop.call_later(ALONE_AFTER, press_escape)

    def press_escape() -> None:
        nonlocal begun
        begun = b""
        react("escape")

    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, read)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        if alone is not None:
            alone.cancel()
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
