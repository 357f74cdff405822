"""Text from elsewhere (names, messages of kernels, files) as it may be shown anywhere."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

LONGEST = 4000  # characters of one message; a kernel's exception may quote a whole tensor
# Controls and what steers direction or is invisible, halves of surrogate pairs, what is no character, and
# separators of lines: escape sequences for a terminal, no XML, and not to be encoded as UTF-8.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})


def plain(text: str) -> str:
    r"""The text with what is no visible character spelt out, as \x1b or \ud800; lines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelt(c) if unicodedata.category(c) in _UNSHOWN and c not in "\n\t" else c for c in text)


def _spelt(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def plain_message(text: str) -> str:
    """Plain text on one line; what is too long is cut, and says so."""
    short = text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters)"
    return plain(short).replace("\n", "\\n")


def make_plain(record: Any, *names: str) -> None:
    """Makes fields of a frozen record plain messages, as texts are that a kernel or a user may have written:
    they reach terminals, XML, Markdown and HTML.
    """
    for name in names:
        object.__setattr__(record, name, plain_message(getattr(record, name)))


def plain_data(data: Any) -> Any:
    """Data as JSON has it, with every text in it plain."""
    if isinstance(data, str):
        return plain(data)
    if isinstance(data, dict):
        return {plain_data(key): plain_data(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain_data(value) for value in data]
    return data


def markdown_safe(text: str) -> str:
    """Plain text that opens neither a tag nor a link where Markdown is shown; safe text stays as it is."""
    return re.sub(r"\]\(", r"]\\(", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", plain(text)))
