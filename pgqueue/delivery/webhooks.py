"""The tasks whose jobs send webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PREFIX: Final = "webhook:"
"""With what the names of these tasks begin."""
_RETRIES: Final[Mapping[str, Any]] = {
    "retry_backoff": 5.0,
    "retry_backoff_max": 6 * 3600.0,
    "retry_jitter": "equal",
}
"""With 12 retries over some 20 hours: a receiver may be down for a night."""


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of such a task: those *given*, or how it is retried, and no webhooks of its own."""
    own = {} if any(name.startswith(("retry_", "default_retry")) for name in given) else _RETRIES
    return {"max_retries": 12, **own, **given, "webhooks": ()}
