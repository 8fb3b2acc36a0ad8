"""Encoders of messages: there are none, because arguments are JSON."""

from __future__ import annotations

from typing import Any

from pgqueue.compat import not_there

WAY = "arguments are JSON; PgQueue(codec=...) encrypts or compresses them"


class JSONEncoder:
    """What messages are encoded as, always."""


class PickleEncoder:
    """Not there."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise not_there("PickleEncoder", WAY)


def set_encoder(encoder: object) -> None:
    """Refuse other encoders than JSONEncoder."""
    if not isinstance(encoder, JSONEncoder):
        raise not_there(f"the encoder {type(encoder).__name__}", WAY)


def get_encoder() -> JSONEncoder:
    """Return what messages are encoded as."""
    return JSONEncoder()
