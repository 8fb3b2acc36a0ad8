"""The messages between a worker and its child processes: JSON objects, one per line, over a socket.

Nothing is pickled: a job is sent as its fields, and so is an outcome.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, get_args
from uuid import UUID

from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Outcome

MAX_LINE: Final = 256 * 1024 * 1024
"""Bytes of a message."""

_KINDS: Final[dict[str, Any]] = {kind.__name__: kind for kind in get_args(Outcome)}


def pack(message: dict[str, Any]) -> bytes:
    """Return *message* as a line. UUIDs and times become texts."""
    return json.dumps(message, default=str).encode() + b"\n"


def unpack(line: bytes) -> dict[str, Any]:
    """Return the message of a line."""
    message = json.loads(line)
    assert isinstance(message, dict)
    return message


def pack_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return *outcome* as values of JSON; see `pack`."""
    return {"kind": type(outcome).__name__, **asdict(outcome)}


def unpack_outcome(packed: dict[str, Any]) -> Outcome:
    """Return the outcome that `pack_outcome` packed."""
    fields = {name: _unpack_field(name, value) for name, value in packed.items() if name != "kind"}
    outcome: Outcome = _KINDS[packed["kind"]](**fields)
    return outcome


def read_reply(message: dict[str, Any]) -> tuple[Outcome, bool | None] | JobError:
    """Return a child's reply: the outcome of the job, and whether it is committed; or why it did not run."""
    if "failure" in message:
        return JobError(*message["failure"])
    return unpack_outcome(message["outcome"]), message["is_kept"]


def _unpack_field(name: str, value: Any) -> Any:
    if value is None:
        return None
    match name:
        case "job_id":
            return UUID(value)
        case "status":
            return JobStatus(value)
        case "error":
            return JobError(**value)
        case "not_before":
            return datetime.fromisoformat(value)
        case _:
            return value
