"""Trains a tokenizer on the texts of the training split, or loads an existing one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from textattn.config.model_section import TokenizerConfig
from textattn.config.regular_file import read_regular
from textattn.data.segments import SEGMENT_SEPARATOR
from textattn.errors import InputError, Setting
from textattn.storage.hub import PREFIX, first_line, looks_like_a_path, offline_variable, tell
from textattn.tokens.backend import load_backend
from textattn.tokens.formulas import vocabulary
from textattn.tokens.tokenizer import COMPOSITION, PAD, UNK, TextTokenizer

# A word with its apostrophes (don't), a run of dots, or one grapheme of anything else (an emoji with its skin tone).
WORD_PATTERN = r"\w+(?:['’]\w+)*|\.{2,}|(?=\S)\X"
# An element, an amount, or a single character such as a bracket.
FORMULA_PATTERN = r"[A-Z][a-z]?|\d+\.?\d*|\.\d+|\S"
GRAPHEME_PATTERN = r"(?=\S)\X"
# Bytes; the largest pretrained ones have half as many.
LARGEST_TOKENIZER = 2**26
PATTERNS = {"char": GRAPHEME_PATTERN, "formula": FORMULA_PATTERN}


def train_tokenizer(config: TokenizerConfig, texts: Iterable[str], num_segments: int) -> TextTokenizer:
    """Make the tokenizer that the config specifies.

    Args:
        config: the `tokenizer` section.
        texts: the texts to train on. They must not contain texts that the model is evaluated on.
        num_segments: number of text columns; with more than one, a separator token is added.

    Raises:
        InputError: `config.path` contains no tokenizer, or `config.vocab_size` is too small for the texts.
    """
    if config.type == "pretrained":
        backend = _pretrained(config)
    elif config.type == COMPOSITION:
        backend = _of_elements()
    else:
        backend = _train(config, texts)
    if num_segments > 1 and backend.token_to_id(SEGMENT_SEPARATOR) is None:
        # This is not a "special" token, because those are not recognised in texts (see TextTokenizer).
        backend.add_tokens([AddedToken(SEGMENT_SEPARATOR, normalized=False)])
    return TextTokenizer(
        backend,
        max_length=config.max_length,
        truncation=config.truncation,
        num_segments=num_segments,
        kind=config.type,
    )


def _of_elements() -> Tokenizer:
    """A tokenizer whose vocabulary is all elements and amounts. It needs no training, and no element is unknown."""
    names = [PAD, UNK, *vocabulary()]
    backend = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token=UNK))
    backend.add_special_tokens([PAD, UNK])
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def _train(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    common: dict[str, Any] = {"vocab_size": config.vocab_size, "special_tokens": [PAD, UNK], "show_progress": False}
    frequent = common | {"min_frequency": config.min_frequency}
    splitter: pre_tokenizers.PreTokenizer = _split(PATTERNS.get(config.type, WORD_PATTERN))
    decoder: decoders.Decoder | None = None
    trainer: trainers.Trainer | None = None
    if config.type == "wordpiece":
        model: models.Model = models.WordPiece(unk_token=UNK)
        decoder = decoders.WordPiece()
    elif config.type == "bpe":
        # With bytes as the alphabet, every text can be encoded and no token is unknown.
        model = models.BPE(unk_token=UNK)
        decoder = decoders.ByteLevel()
        splitter = pre_tokenizers.Sequence(
            [splitter, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        trainer = trainers.BpeTrainer(**frequent, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    elif config.type == "unigram":
        model = models.Unigram()
        trainer = trainers.UnigramTrainer(**common, unk_token=UNK)
    else:
        model = models.WordLevel(unk_token=UNK)
        trainer = trainers.WordLevelTrainer(**frequent)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _normalizer(config)
    tokenizer.pre_tokenizer = splitter
    if decoder is not None:
        tokenizer.decoder = decoder
    if config.type == "wordpiece":
        return _train_wordpiece(tokenizer, texts, frequent)
    try:
        tokenizer.train_from_iterator(texts, trainer)
    # The binding raises bare Exception; nothing narrower can be caught.
    except Exception as error:
        if config.type != "unigram" or "not large enough" not in str(error):
            raise
        raise InputError(
            f"{config.vocab_size} is less than the number of different characters in the texts",
            f"tokenizer.vocab_size={TokenizerConfig().vocab_size}, or tokenizer.type=char",
            setting="tokenizer.vocab_size",
        ) from None
    return _canonical_unigram(tokenizer) if config.type == "unigram" else tokenizer


def _train_wordpiece(tokenizer: Tokenizer, texts: Iterable[str], settings: dict[str, Any]) -> Tokenizer:
    """Train WordPiece so that every process gets the same pieces in the same order.

    The trainer numbers inner characters (`##a`) in the order of a hash table, which differs between processes, and
    breaks ties by number (huggingface/tokenizers#1794). A first training therefore collects these characters, and a
    second one gets them in alphabetical order.
    """
    texts = list(texts)
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(**settings | {"vocab_size": 0}))
    characters = sorted(set(tokenizer.get_vocab()) - {PAD, UNK})
    special = {"special_tokens": [PAD, UNK, *characters]}
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(**settings | special))
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in (PAD, UNK)]
    return Tokenizer.from_str(json.dumps(state))


def _canonical_unigram(tokenizer: Tokenizer) -> Tokenizer:
    """Round and sort the scores of a unigram model so that every process gets the same scores in the same order.

    The trainer adds floats in the order of a hash table. It uses the same order to assign scores to characters that are
    too rare to be estimated: the lowest score of all, and steps of 0.0001 above it.
    """
    state = json.loads(tokenizer.to_str())
    special, pieces = state["model"]["vocab"][:2], dict(state["model"]["vocab"][2:])
    lowest = min(pieces.values())
    for piece, score in pieces.items():
        steps = (score - lowest) / 1e-4
        if len(piece) == 1 and abs(steps - round(steps)) < 1e-6 and steps < len(pieces):
            score = lowest
        pieces[piece] = round(score, 3)
    state["model"]["vocab"] = special + sorted(map(list, pieces.items()), key=lambda item: (-item[1], item[0]))
    return Tokenizer.from_str(json.dumps(state))


def _split(pattern: str) -> pre_tokenizers.Split:
    return pre_tokenizers.Split(Regex(pattern), "removed", invert=True)


def _normalizer(config: TokenizerConfig) -> normalizers.Sequence:
    steps: list[normalizers.Normalizer] = []
    if config.strip_html_breaks:
        steps.append(normalizers.Replace(Regex(r"<br\s*/?>"), " "))
    if config.nfkc:
        steps.append(normalizers.NFKC())
    if config.lowercase if config.lowercase is not None else config.type != "formula":
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence(steps)


def pretrained_content(config: TokenizerConfig) -> bytes:
    """Read the tokenizer.json that `tokenizer.path` names.

    Raises:
        InputError: it does not exist or cannot be read.
    """
    assert config.path is not None
    path = Path(config.path)
    if config.path.startswith(PREFIX):
        path = _from_hub(config.path.removeprefix(PREFIX))
    elif path.is_dir():
        path = path / "tokenizer.json"
    elif not path.exists():
        if looks_like_a_path(config.path):
            on_hub = (Setting("tokenizer.path", PREFIX + config.path), " asks the Hub")
            raise InputError(
                f"no such file or folder: {config.path}",
                on_hub if re.fullmatch(r"[\w.-]+/[\w.-]+", config.path) else None,
                setting="tokenizer.path",
            )
        path = _from_hub(config.path)
    try:
        return read_regular(path, LARGEST_TOKENIZER)
    except OSError as error:
        raise InputError(error.strerror or str(error), setting="tokenizer.path", place=str(path)) from None


def _pretrained(config: TokenizerConfig) -> Tokenizer:
    tokenizer = load_backend(pretrained_content(config), str(config.path), setting="tokenizer.path")
    if all(tokenizer.token_to_id(name) is None for name in ("[PAD]", "<pad>")):
        tokenizer.add_special_tokens([PAD])
    return tokenizer


def _from_hub(repo_id: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        path = Path(hf_hub_download(repo_id, "tokenizer.json"))
    except (HfHubHTTPError, HFValidationError, EntryNotFoundError, OSError) as error:
        variable = offline_variable()
        if isinstance(error, RepositoryNotFoundError):
            reason = "no such repository"
        elif variable and not isinstance(error, HFValidationError):
            reason = f"{variable} is set"
        else:
            reason = first_line(error)
        raise InputError(
            f"{repo_id!r} is not a file or folder, and cannot be downloaded from the Hub: {reason}",
            setting="tokenizer.path",
        ) from None
    tell("model", "tokenizer", repo_id, path.parent.name)
    return path
