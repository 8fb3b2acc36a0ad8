"""structlog: the job's fields on whatever a handler logs.

    structlog.configure(processors=[add_job_fields, ...])

A processor, and no import of structlog: it is a function of an event's dictionary.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from pgqueue.logs import job_fields


def add_job_fields(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add `job_id`, `task`, `queue` and `attempt` to what is logged inside a handler, as a processor.

    An event that has one of them keeps it. Threads and asyncio tasks that the handler starts have them, too.
    """
    for name, value in job_fields().items():
        event.setdefault(name, value)
    return event
