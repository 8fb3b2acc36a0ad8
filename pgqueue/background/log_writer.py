"""Writes log records in a thread of its own, so that whoever logs never waits for whoever reads.

What reads the log may stall: a pipe that is full, a terminal that is held, a disk. Then records are dropped
and counted, and the work goes on.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import queue
import threading
import time
from contextlib import suppress
from typing import IO, Final

from pgqueue import forks

MAX_RECORDS: Final = 10_000
MAX_LENGTH: Final = 16 * 1024 * 1024
"""Records, and their characters, that may wait to be written. More are dropped."""
FLUSH_WITHIN: Final = 1.0
"""Seconds for which an end of the process waits until the records are written."""


class RawStream(io.TextIOBase, IO[str]):
    """Writes text to a descriptor, without a buffer.

    A buffer has a lock. A write that stalls would hold it, and Python waits for it when it exits, or aborts.
    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._descriptor = descriptor
        self._encoding = encoding

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        """Write all of *text*. Raises OSError."""
        rest = memoryview(text.encode(self._encoding, "backslashreplace"))
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return len(text)


class StreamHandler(logging.StreamHandler[IO[str]]):
    """Writes records to a stream. Raises OSError where that fails, for LogWriter to count."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.stream.write(self.format(record) + self.terminator)

    def flush(self) -> None:
        """Do nothing: the end of a process must not wait for a stream that stalls."""


class LogWriter(logging.Handler):
    """Formats each record where it is logged, and has *target* write it, in a thread.

    It has the formatter and the filters; *target* writes the finished text.
    """

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target
        self._waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._count = self._length = 0
        self._counting = threading.Lock()
        self._untold = 0
        self.dropped = 0
        """Records that were not written."""
        forks.call_in_children(self._start_anew)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record over. Never waits, and raises nothing."""
        try:
            text = self.format(record)
        except Exception as error:
            # The arguments are the caller's: they may raise anything.
            text = f"a record of {record.name} could not be formatted: {type(error).__name__}: {record.msg!r}"
        finished = copy.copy(record)
        finished.msg, finished.args = text, None
        # They are in the text. Kept here, they would keep the frames of an error.
        finished.exc_info = finished.exc_text = finished.stack_info = None
        with self._counting:
            if self._count >= MAX_RECORDS or self._length + len(text) > MAX_LENGTH:
                self._drop()
                return
            self._count += 1
            self._length += len(text)
            self._waiting.put(finished)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="pgqueue log", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Wait until all records are written, for FLUSH_WITHIN seconds at most."""
        deadline = time.monotonic() + FLUSH_WITHIN
        while self._count and time.monotonic() < deadline:
            time.sleep(0.005)

    def _drop(self) -> None:
        self.dropped += 1
        self._untold += 1

    def _write_all(self) -> None:
        while True:
            record = self._waiting.get()
            self._tell_dropped()
            self._write(record)
            with self._counting:
                self._count -= 1
                self._length -= len(record.msg)

    def _tell_dropped(self) -> None:
        with self._counting:
            untold, self._untold = self._untold, 0
        if untold:
            text = f"{untold} log records were dropped: the reader of the log was too slow, or gone"
            record = logging.LogRecord("pgqueue.log", logging.WARNING, "", 0, text, None, None)
            record.msg = self.format(record)
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        try:
            self._target.emit(record)
        except Exception:
            # Nobody reads any more, or the disk is full. There is nowhere to say so.
            with self._counting:
                self._drop()

    def _start_anew(self) -> None:
        # In a forked child: its records are its own, and the thread is its parent's.
        self._waiting, self._counting = queue.SimpleQueue(), threading.Lock()
        self._thread, self._count, self._length = None, 0, 0


def dropped_records() -> int:
    """Return how many log records this process has dropped."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, LogWriter))


class AsideLogger:
    """A logger for threads that must not wait for a log handler of the program: another thread calls it.

    What it logs while 1,000 records wait is dropped.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def log(self, level: int, text: str, *args: object) -> None:
        """Log at *level*."""
        if self._logger.isEnabledFor(level):
            _aside.call(self._logger, level, text, args)

    def warning(self, text: str, *args: object) -> None:
        """Log a warning."""
        self.log(logging.WARNING, text, *args)

    def error(self, text: str, *args: object) -> None:
        """Log an error."""
        self.log(logging.ERROR, text, *args)


class _Aside:
    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[logging.Logger, int, str, tuple[object, ...]]] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def call(self, logger: logging.Logger, level: int, text: str, args: tuple[object, ...]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pgqueue log aside", daemon=True)
            self._thread.start()
        if self._calls.qsize() < MAX_ASIDE:
            self._calls.put((logger, level, text, args))

    def _run(self) -> None:
        while True:
            logger, level, text, args = self._calls.get()
            with suppress(Exception):
                logger.log(level, text, *args)


MAX_ASIDE: Final = 1_000
_aside: Final = _Aside()
