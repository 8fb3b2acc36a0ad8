"""Loggers of tasks."""

from __future__ import annotations

import logging


def get_task_logger(name: str) -> logging.Logger:
    """Return the logger of a module of tasks. `pgqueue worker` sets up what it writes."""
    return logging.getLogger(name)
