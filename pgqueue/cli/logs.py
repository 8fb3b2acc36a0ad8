"""What a command says while it runs, on stderr."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum

from rich.console import Console
from rich.logging import RichHandler


class Level(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


def set_up_logging(level: Level) -> None:
    """Log to stderr: for eyes on a terminal, else one plain line a record.

    Logging that the program has set up itself stays as it is.
    """
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(
            console=Console(stderr=True), show_path=False, log_time_format="[%X]"
        )
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"))
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(handler)
        root.setLevel(level.upper())
