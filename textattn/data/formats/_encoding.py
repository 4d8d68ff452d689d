"""Which encoding a text file is in, where nobody has said so."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from textattn.data.formats._bytes import BLOCK, first_bytes, open_bytes
from textattn.errors import InputError, Setting

# Marks at the start of a file; those of UTF-32 begin like those of UTF-16.
MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# Codecs of Python that no file is saved in, and that fail in ways of their own.
NO_ENCODINGS = ("undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape")
# Bytes of lines that are not ASCII, by which an encoding is recognised.
EVIDENCE = 1 << 16
# Bytes decoded at a time: several times as fast as with larger blocks, which leave the cache of a processor.
DECODED = 1 << 16
# Encodings in which files are still saved. The library knows many more, and then takes one for another.
SAVED_IN = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874"),
    *("iso8859_2", "iso8859_5", "iso8859_7", "iso8859_9", "koi8_r", "koi8_u", "cp866"),
    *("gb18030", "big5", "cp932", "euc_jp", "cp949"),
)
# How sure the recognition of a language must be to decide.
COHERENCE = 0.2
# In text of Western Europe, letters beyond ASCII stand alone or in pairs among others, and symbols between words.
_NOT_WESTERN = re.compile(
    "[À-ÖØ-öø-ÿŒœŠšŽžŸ]{4}|[a-zß-ö][À-ÖØ-ÞŒŠŽŸ][a-zß-ö]|[A-Za-zÀ-ÿ][¡-©«-¬®-±¶-¸¼-¿×÷¤†‡ˆ‰‹›ƒ¹²³][a-zà-ÿ]|[\x80-\x9f]"
)


def check_encoding(encoding: str) -> None:
    """Raises LookupError for a name that is not that of an encoding of text files."""
    try:
        info = codecs.lookup(encoding)
    except ValueError:  # a NUL in the name
        raise LookupError(encoding) from None
    if not getattr(info, "_is_text_encoding", True) or info.name.replace("_", "-") in NO_ENCODINGS:
        raise LookupError(encoding)


def marked_encoding(first: bytes) -> str | None:
    """The encoding that the first bytes of a file tell: a mark, or the zeros of UTF-16; None if they do not."""
    found = next((encoding for mark, encoding in MARKS if first.startswith(mark)), None)
    if found is not None:
        return found
    # Letters in UTF-16 without a mark: every other byte is 0.
    letters = first[:4]
    if len(letters) == 4 and letters.count(0) == 2 and (letters[1::2] == b"\0\0" or letters[::2] == b"\0\0"):
        return f"utf-16-{'le' if letters[1] == 0 else 'be'}"
    return None


def recognised_encoding(path: Path) -> tuple[str, str | None]:
    """The encoding of a file, and a note about it if it is not UTF-8.

    A file in which it is not recognised is said to be UTF-8, so that reading it names the first wrong byte.
    """
    found = marked_encoding(first_bytes(path, 4))
    if found is not None:
        return found, None if found == "utf-8" else f"read as {found}"
    place = _first_wrong_block(path)
    if place is None:
        return "utf-8", None
    evidence = _lines_beyond_ascii(path, place)
    found = None if _is_damaged_utf8(evidence) else _guess(evidence)
    if found is None or not _decodes(path, found):
        return "utf-8", None
    return found, f"read as {found}, because it is not UTF-8; if letters look wrong, set data.encoding"


def _first_wrong_block(path: Path) -> int | None:
    """Where the block begins whose bytes are not UTF-8; None if all are."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    place = 0
    with open_bytes(path) as file:
        try:
            while data := file.read(DECODED):
                # Much faster than decoding, and true of most blocks.
                if not data.isascii() or decoder.getstate()[0]:
                    decoder.decode(data)
                place += len(data)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return max(0, place - DECODED)
    return None


def _lines_beyond_ascii(path: Path, place: int) -> bytes:
    """Some lines that contain more than ASCII, from `place` on."""
    found: list[bytes] = []
    size = 0
    with open_bytes(path) as file:
        while place > 0 and (data := file.read(min(place, BLOCK))):
            place -= len(data)
        while size < EVIDENCE and (data := file.read(BLOCK)):
            lines = [line for line in data.splitlines() if not line.isascii()]
            found += lines
            size += sum(map(len, lines))
    return b"\n".join(found)[:EVIDENCE]


def _is_damaged_utf8(evidence: bytes) -> bool:
    """Whether most characters beyond ASCII are UTF-8: then a few bytes are wrong, not the encoding."""
    text = evidence.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    return sum(not character.isascii() for character in text) - wrong >= max(wrong, 1)


def _guess(evidence: bytes) -> str | None:
    from charset_normalizer import from_bytes

    western = _western(evidence)
    found = from_bytes(evidence, cp_isolation=list(SAVED_IN))
    best = found.best()
    if western is None:
        return str(best.encoding) if best is not None and best.coherence >= COHERENCE else None
    # Many encodings of Europe fit: another one has to fit much better to the letters of a language.
    coherence = max((match.coherence for match in found if str(match) == western), default=0.0)
    if best is not None and best.coherence >= coherence + COHERENCE:
        return str(best.encoding)
    return "cp1252"


def _western(evidence: bytes) -> str | None:
    """The text in the encoding of Windows in Western Europe and America, if that looks like text."""
    try:
        text = evidence.decode("cp1252")
    except UnicodeDecodeError:
        return None
    beyond = sum(not character.isascii() for character in text)
    strange = len(_NOT_WESTERN.findall(text))
    return text if strange * 50 <= beyond and beyond * 3 <= len(text) else None


def _decodes(path: Path, encoding: str) -> bool:
    decode = codecs.getincrementaldecoder(encoding)().decode
    try:
        with open_bytes(path) as file:
            while data := file.read(DECODED):
                decode(data)
            decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def unknown_encoding(encoding: str) -> InputError:
    """The error for a name that is not that of an encoding."""
    shown = repr(encoding) if len(encoding) <= 60 else f"{repr(encoding)[:57]}..."
    return InputError(f"unknown encoding {shown}", Setting("data.encoding", "utf-8"))
