"""Checks a tokenizer.json before the library sees it: only parts that tokenizers of texts consist of, and bounded ones.

The library runs whatever a file says. Thirty-four steps that each double a letter fill the memory of any machine, and
dropout makes answers random. What a tokenizer of textattn or a common pretrained one never has is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MODELS = {"BPE", "Unigram", "WordLevel", "WordPiece"}
# The other parts of a file: the parts they may consist of, and the key under which a sequence lists its parts.
PARTS: dict[str, tuple[frozenset[str], str]] = {
    "normalizer": (
        frozenset({
            "BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend",
            "Replace", "Strip", "StripAccents",
        }),
        "normalizers",
    ),
    "pre_tokenizer": (
        frozenset({
            "BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace", "Punctuation", "Split",
            "UnicodeScripts", "Whitespace", "WhitespaceSplit",
        }),
        "pretokenizers",
    ),
    "post_processor": (
        frozenset({"BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing"}), "processors",
    ),
    "decoder": (
        frozenset({
            "BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Replace", "Strip", "WordPiece",
        }),
        "decoders",
    ),
}  # fmt: skip
MOST_STEPS = 32
"""Of each part."""
DEEPEST = 4
LARGEST_GROWTH = 16
"""How many times as many characters all replacements together may make of a text."""
LONGEST_PATTERN = 1000
MOST_REPEATS = 1000
"""The largest number in `{1,1000}` of a regular expression."""
LONGEST_AFFIX = 64
"""Characters that are added to a text or to each piece of a word."""
LONGEST_WORD = 10_000
"""Characters of a word that WordPiece splits; the time is quadratic in it."""
LONGEST_MAPPED = 64
"""Bytes that a character becomes. The most that Unicode's compatibility forms need is 33."""
LARGEST_ID = 2**31 - 1
"""Ids are stored as int32."""
_REPEATS = re.compile(r"\{(\d*),?(\d*)\}")


class Refused(Exception):
    """What in the file no tokenizer of texts has."""


def check_backend(content: bytes) -> None:
    """Check the content of a tokenizer.json.

    Raises:
        ValueError: it is not JSON, or no tokenizer.
        Refused: it contains what no tokenizer of texts needs.
    """
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_without_doubles)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    growth, bytewise = 1.0, 0
    for part, (allowed, key) in PARTS.items():
        for number, step in enumerate(_steps(value.get(part), key)):
            kind = step.get("type")
            if kind not in allowed:
                raise Refused(f"{part}: the type {kind!r}")
            if number >= MOST_STEPS:
                raise Refused(f"{part}: more than {MOST_STEPS} steps")
            _check_strings(part, step)
            if part in ("normalizer", "pre_tokenizer"):
                bytewise += kind == "ByteLevel"
            if part == "normalizer":
                growth *= _growth(step)
    if growth > LARGEST_GROWTH:
        raise Refused(f"normalizer: it may make a text {growth:,.0f} times as long")
    if bytewise > 1:
        # Each writes the bytes of the one before as characters of two bytes.
        raise Refused("ByteLevel more than once")
    _check_model(value.get("model"))
    _check_added(value.get("added_tokens"))


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Of two entries with the same key, the library might use another one than was checked."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice in an object")
    return value


def _steps(part: Any, key: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The steps of a part of the tokenizer, in order, with those of sequences within sequences."""
    if part is None:
        return
    if not isinstance(part, dict) or depth > DEEPEST:
        raise Refused(f"{key}: no steps")
    if part.get("type") != "Sequence":
        yield part
        return
    steps = part.get(key)
    if not isinstance(steps, list):
        raise Refused(f"{key}: no list")
    for step in steps:
        yield from _steps(step, key, depth + 1)


def _check_strings(part: str, step: dict[str, Any]) -> None:
    for name, value in step.items():
        if name == "precompiled_charsmap":
            continue
        pattern = value.get("Regex", value.get("String")) if isinstance(value, dict) else value
        if not isinstance(pattern, str):
            continue
        if len(pattern) > LONGEST_PATTERN:
            raise Refused(f"{part}: {name} of {len(pattern):,} characters")
        numbers = [number for found in _REPEATS.findall(pattern) for number in found if number]
        if any(len(number) > 5 or int(number) > MOST_REPEATS for number in numbers):
            raise Refused(f"{part}: {name} with more than {MOST_REPEATS:,} repeats")


def _growth(step: dict[str, Any]) -> float:
    """How many times as many characters a step of the normaliser may make of a text, apart from a few more."""
    kind = step.get("type")
    if kind == "Prepend" and len(str(step.get("prepend", ""))) > LONGEST_AFFIX:
        raise Refused("normalizer: Prepend with a long text")
    if kind == "Precompiled":
        _check_characters(step.get("precompiled_charsmap"))
        # Hardly any character of a real text becomes more than a few. Twice is more than is allowed.
        return 8.0
    if kind != "Replace":
        return 1.0
    pattern, content = step.get("pattern"), step.get("content")
    if not isinstance(pattern, dict) or not isinstance(content, str):
        raise Refused("normalizer: Replace without a pattern or a content")
    replaced = pattern.get("String")
    if replaced is None:
        # A regular expression may match between all characters.
        return 1.0 + len(content)
    if not isinstance(replaced, str) or not replaced:
        raise Refused("normalizer: Replace of nothing")
    return max(1.0, len(content) / len(replaced))


def _check_characters(encoded: Any) -> None:
    """Check the table of characters of SentencePiece: a search tree, and then the strings it leads to."""
    import base64  # only few tokenizers have such a table

    try:
        table = base64.b64decode(encoded, validate=True)
    except (ValueError, TypeError):
        raise Refused("normalizer: the table of characters is damaged") from None
    size = int.from_bytes(table[:4], "little")
    if len(table) < 8 or size % 4 or not 4 <= size <= len(table) - 4:
        raise Refused("normalizer: the table of characters is damaged")
    longest = max(map(len, table[4 + size :].split(b"\0")), default=0)
    if longest > LONGEST_MAPPED:
        raise Refused(f"normalizer: a character that becomes {longest:,} bytes")


def _check_model(model: Any) -> None:
    if not isinstance(model, dict):
        raise ValueError("no model")
    # Early versions of the library left the type out.
    kind = model.get("type")
    if kind is not None and kind not in MODELS:
        raise Refused(f"model: the type {kind!r}")
    if model.get("dropout"):
        raise Refused("model: dropout, which makes answers random")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        affix = model.get(name)
        if affix is not None and (not isinstance(affix, str) or len(affix) > LONGEST_AFFIX):
            raise Refused(f"model: {name}")
    longest = model.get("max_input_chars_per_word", 0)
    if not isinstance(longest, int) or not 0 <= longest <= LONGEST_WORD:
        raise Refused(f"model: max_input_chars_per_word {longest!r}")
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        _check_ids(vocabulary.values())
    elif not isinstance(vocabulary, list):
        raise ValueError("no vocabulary")


def _check_added(tokens: Any) -> None:
    if tokens is None:
        return
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise Refused("added_tokens: no list of objects")
    if any(not isinstance(token.get("content"), str) or len(token["content"]) > LONGEST_PATTERN for token in tokens):
        raise Refused("added_tokens: content")
    _check_ids([token.get("id") for token in tokens])


def _check_ids(ids: Any) -> None:
    if not set(map(type, ids)) <= {int}:
        raise Refused("an id that is not an integer")
    wrong = next((number for number in (min(ids, default=0), max(ids, default=0)) if not 0 <= number <= LARGEST_ID), 0)
    if wrong:
        raise Refused(f"the id {wrong}")
