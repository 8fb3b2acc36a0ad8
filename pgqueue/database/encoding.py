"""Databases that are not UTF8: what fits is kept, JSON is escaped, and the rest is replaced or refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import asyncpg

from pgqueue.errors import InvalidOptionError

_CODECS: Final = {
    "LATIN1": "latin-1",
    "LATIN9": "iso8859-15",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
}
"""Python's names of encodings. Of all others, ASCII is what surely fits."""
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]")

UNSTORABLE: Final = (asyncpg.UntranslatableCharacterError, asyncpg.CharacterNotInRepertoireError)
"""How a server refuses text that its encoding does not have."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The encoding of a database that is not UTF8."""

    name: str

    def document(self, document: str) -> str:
        r"""Return a JSON document with `\u` escapes, which every encoding has. It decodes to the same."""
        return document if document.isascii() else _BEYOND_ASCII.sub(_escape, document)

    def fit(self, text: str) -> str:
        """Return *text* with a question mark for each character that the encoding does not have."""
        codec = _CODECS.get(self.name, "ascii")
        return text.encode(codec, "replace").decode(codec)

    def holds(self, text: str) -> bool:
        """Whether the encoding has all characters of *text*."""
        return self.fit(text) == text


def encoding_of(name: str) -> Encoding | None:
    """Return the encoding that a server calls *name*; None: it is UTF8, which has all characters."""
    return None if name == "UTF8" else Encoding(name)


def unstorable(error: BaseException) -> InvalidOptionError:
    """Return the error to raise for text of a call that the database's encoding does not have."""
    return InvalidOptionError(
        f"the database's encoding does not have a character of this call: {error}; nothing was changed"
    )


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
