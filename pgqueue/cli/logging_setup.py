"""Sets up the log of a command, on stderr."""

from __future__ import annotations

import io
import logging
import sys
from enum import StrEnum
from typing import IO

from rich.console import Console
from rich.logging import RichHandler

from pgqueue.background.log_writer import LogWriter, RawStream, StreamHandler
from pgqueue.cli.output import plain
from pgqueue.logs import JobLogFilter, JsonFormatter


class Level(StrEnum):
    """The lowest level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LogFormat(StrEnum):
    """The format of log records."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


def set_up_logging(level: Level, *, every_job: bool = False, form: LogFormat = LogFormat.AUTO) -> None:
    """Log to stderr in *form*: by default readable text on a terminal, otherwise JSON, one record per line.

    *every_job*: log the start and success of each job too, not only failures. If the program has configured
    logging itself, nothing is changed.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    root.addHandler(_handler(form))
    root.setLevel(level.upper())
    if not every_job:
        logging.getLogger("pgqueue.jobs").setLevel(logging.WARNING)


def _handler(form: LogFormat) -> logging.Handler:
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    stream = _own_stderr()
    formatter: logging.Formatter
    target: logging.Handler = StreamHandler(stream)
    if form is LogFormat.JSON or (form is LogFormat.AUTO and not is_terminal):
        formatter = JsonFormatter()
    elif is_terminal:
        target = RichHandler(console=Console(file=stream), show_path=False, log_time_format="[%X]")
        formatter = _Line("%(message)s")
    else:
        formatter = _Line("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    # It may be a pipe that nobody reads: the event loop must not wait for it.
    handler = LogWriter(target)
    handler.setFormatter(formatter)
    handler.addFilter(JobLogFilter())
    return handler


def _own_stderr() -> IO[str]:
    own = sys.__stderr__
    if sys.stderr is not own:
        # Replaced, for example by a test.
        return sys.stderr
    # None: it was closed before the program started.
    return io.StringIO() if own is None else RawStream(own.fileno(), own.encoding)


class _Line(logging.Formatter):
    """Appends the job to records that a handler logs, and the statement to those about one that failed.

    Text that a terminal would obey is escaped, and every line after the first is indented, so that no text
    can pass for a record.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        return plain(super().format(record), keep_lines=True).replace("\n", "\n    ")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's
        line = super().formatMessage(record)
        if statement := getattr(record, "statement", None):
            line = f"{line} [statement {statement}]"
        if getattr(record, "job_id", None) is None or hasattr(record, "event"):
            return line
        return f"{line} [job {record.job_id}, attempt {record.attempt}]"  # type: ignore[attr-defined]  # the filter's
