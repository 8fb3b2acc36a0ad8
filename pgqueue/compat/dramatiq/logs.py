"""Loggers as Dramatiq names them."""

from __future__ import annotations

import logging


def get_logger(module: str, name: str | type | None = None) -> logging.Logger:
    """Return the logger of a module, or of something in it."""
    within = getattr(name, "__name__", name)
    return logging.getLogger(module if within is None else f"{module}.{within}")
