"""What a command says while it runs, on stderr."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum

from rich.console import Console
from rich.logging import RichHandler

from pgqueue.logs import JobLogFilter


class Level(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


def set_up_logging(level: Level, *, every_job: bool = False) -> None:
    """Log to stderr: for eyes on a terminal, else one plain line a record.

    *every_job*: the start and success of each job too, and not only what went wrong. Logging that the program
    has set up itself stays as it is.
    """
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(
            console=Console(stderr=True), show_path=False, log_time_format="[%X]"
        )
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(_Line("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"))
    handler.addFilter(JobLogFilter())
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(handler)
        root.setLevel(level.upper())
        if not every_job:
            logging.getLogger("pgqueue.jobs").setLevel(logging.WARNING)


class _Line(logging.Formatter):
    """Says, behind what a handler logs, for which job it ran."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's
        line = super().formatMessage(record)
        if getattr(record, "job_id", None) is None or hasattr(record, "event"):
            return line
        return f"{line} [job {record.job_id}, attempt {record.attempt}]"  # type: ignore[attr-defined]  # the filter's
