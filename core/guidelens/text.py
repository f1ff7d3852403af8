"""Decode text from files, standard input and arguments. Errors are one line with the wrong byte and its position.

Only ``\\n`` and ``\\r\\n`` end a line. ``str.splitlines`` also splits at U+2028, U+0085, form feed and others, which
occur inside prompts and inside JSON strings.
"""

from __future__ import annotations

import codecs
import sys
from pathlib import Path

from .errors import UsageError

STDIN = "-"
"""Means standard input where a path is expected."""
LONGEST = 64 << 20
"""The largest size of a text file in bytes."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks and their encodings. UTF-32 comes first, because its mark begins with one of UTF-16."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def decode(content: bytes, name: str) -> str:
    """Decode bytes as UTF-8, or in the encoding of their byte order mark.

    :param name: the name of the source in errors, such as ``the prompts mine.csv``.
    :raises UsageError: if they are not text. The message has the first wrong byte and its position.
    """
    mark, encoding = next(((m, e) for m, e in _MARKS if content.startswith(m)), (b"", "utf-8"))
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        position = error.start + len(mark)
        line = content.count(b"\n", 0, position) + 1
        hint = "; save it as UTF-8" if encoding == "utf-8" else ""
        raise UsageError(
            f"cannot read {name}: it is not {encoding.upper()} text: byte 0x{content[position]:02x} at position "
            f"{position} (line {line}){hint}"
        ) from None
    if "\x00" in text:
        position = text.index("\x00")
        raise UsageError(
            f"cannot read {name}: it is not text: a zero at position {position}; is it UTF-16 without a mark?"
        )
    return check_characters(text, name)


def read_text(path: str | Path, name: str) -> str:
    """Return the text of a file, or of standard input if ``path`` is ``-``: at most :data:`LONGEST` bytes.

    :param name: the name of the source in errors, such as ``the prompts mine.csv``.
    :raises UsageError: if it cannot be read, is too long, or is not text.
    """
    try:
        if str(path) == STDIN:
            content = (
                sys.stdin.buffer.read(LONGEST + 1)
                if hasattr(sys.stdin, "buffer")
                else sys.stdin.read().encode()
            )
        else:
            with Path(path).expanduser().open("rb") as file:
                content = file.read(LONGEST + 1)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror or error}") from None
    if len(content) > LONGEST:
        raise UsageError(f"cannot read {name}: it is longer than {LONGEST >> 20} MiB")
    return decode(content, name)


def check_characters(text: str, name: str) -> str:
    """Return ``text`` if every character of it can be written as UTF-8.

    An argument that is not UTF-8 arrives with surrogates in place of its bytes.

    :raises UsageError: if it contains a surrogate. The message has its position, and the byte that it replaces.
    """
    for position, character in enumerate(text):
        code = ord(character)
        if 0xD800 <= code <= 0xDFFF:
            what = (
                f"byte 0x{code - 0xDC00:02x}"
                if 0xDC80 <= code <= 0xDCFF
                else f"half a character, U+{code:04X},"
            )
            raise UsageError(f"{name} is not UTF-8 text: {what} at position {position}")
    return text


def split_lines(text: str) -> list[str]:
    """Split text only at ``\\n`` and ``\\r\\n``. An empty last line is left out."""
    found = text.replace("\r\n", "\n").split("\n")
    return found[:-1] if found[-1] == "" else found


def without_formula(value: object) -> object:
    """Return a value for a spreadsheet. Text that a spreadsheet would evaluate gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
