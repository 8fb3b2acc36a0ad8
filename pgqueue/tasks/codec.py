"""Codecs, which change arguments and results on their way to and from the database."""

from __future__ import annotations

from typing import Protocol

from pydantic_core import from_json


class Codec(Protocol):
    """Changes arguments and results on their way to and from the database, for example by encrypting them.

    Takes JSON text and returns JSON text: what is stored stays a JSON document.
    """

    def encode(self, document: str) -> str:
        """Return the text to store for *document*."""

    def decode(self, stored: str) -> str:
        """Return the document of *stored*, which may have been stored without this codec."""


def encode_document(codec: Codec | None, document: str) -> str:
    """Return the text to store for *document*. Raises ValueError unless the codec returns a JSON document.

    Documents are sent side by side: text that is not exactly one document would shift the others.
    """
    if codec is None:
        return document
    stored = codec.encode(document)
    from_json(stored)
    return stored
