"""How arguments and results are changed on their way to and from the database."""

from __future__ import annotations

from typing import Protocol

from pydantic_core import from_json


class Codec(Protocol):
    """Changes arguments and results on their way to and from the database: encrypts, say.

    Takes JSON text and returns JSON text: what is stored stays a JSON document.
    """

    def encode(self, document: str) -> str:
        """Return what is stored for *document*."""

    def decode(self, stored: str) -> str:
        """Return the document of *stored*. May be given what was stored without this codec."""


def encode_document(codec: Codec | None, document: str) -> str:
    """Return what is stored for *document*. Raises ValueError if the codec returns no JSON document.

    Documents are sent side by side: one that is not exactly one would shift the others.
    """
    if codec is None:
        return document
    stored = codec.encode(document)
    from_json(stored)
    return stored
