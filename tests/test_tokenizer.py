"""Text to tokens and back to the characters they stand for, for every type of tokenizer."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from textattn.config.model_section import TokenizerConfig
from textattn.data.read import DataConfig, read_corpus
from textattn.errors import InputError
from textattn.tokens.tokenizer import PAD, UNK, TextTokenizer
from textattn.tokens.train_tokenizer import train_tokenizer

TYPES = ["word", "wordpiece", "bpe", "unigram", "char", "formula"]
TEXTS = [
    "The film was really good, don't miss it!",
    "The plot was bad... and the music was loud.",
    "A café, a naïve waiter, 日本語 and العربية; 한국어 too.",
    "I loved it 👍🏽 👩‍👩‍👧 🇫🇷 ❤️ 1️⃣",
    "LiFePO4 Ag0.5Ge1Pb1.75Se4 Ca(OH)2 Co CO",
] * 3


def train(kind: str, texts: list[str] = TEXTS, segments: int = 1, **more: object) -> TextTokenizer:
    config = TokenizerConfig.model_validate({"type": kind, "min_frequency": 1, "vocab_size": 500, **more})
    return train_tokenizer(config, iter(texts), segments)


@pytest.fixture(scope="module")
def trained() -> dict[str, TextTokenizer]:
    return {kind: train(kind, segments=2) for kind in TYPES}


def tokens(tokenizer: TextTokenizer, text: str) -> list[str]:
    return tokenizer.encode_with_offsets([text])[0].tokens


# Pieces that have broken tokenizers before: skin tones, families, flags, accents apart, letters apart, ligatures,
# full-width and half-width forms, one character that becomes eighteen, right to left, controls, line breaks, markup.
PIECES = [
    *("👍🏽", "👩‍👩‍👧", "🇫🇷🇩", "❤️", "1️⃣", "e\u0301", "e\u0323\u0301", "q\u0307\u0323", "한", "\u1112\u1161\u11ab"),
    *("ﬁ", "ﷺ", "Ａ１！", "ｶﾞ", "½", "İ", "ß", "日本", "العربية", "שלום", "का\u200dम", "\u09c7\u09be", "\u0600\u0301"),
    *("\u200d", "\ufeff", "\x00", "\x01", "\x7f", "\u0085", "\u00ad", "\r\n", "\t", " ", "\u3000", "<br />", "<br"),
    *("[PAD]", "[UNK]", "don't", "...", "##a", "LiFePO4", "Ag0.5", "the", "Film"),
]  # fmt: skip
# Characters that every Unicode version at hand normalises alike.
CHARACTERS = st.characters(max_codepoint=0x9FFF, exclude_categories=["Cs", "Cn"], exclude_characters="\u32ff")
NASTY = st.lists(st.sampled_from(PIECES) | st.text(CHARACTERS, max_size=4), max_size=10).map("".join)


def normalised(text: str, kind: str) -> str:
    text = unicodedata.normalize("NFKC", text)
    return text if kind == "formula" else "".join(c.lower() for c in text)


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=120, deadline=None)
@given(text=NASTY)
def test_offsets_reproduce_each_token_up_to_normalisation(
    trained: dict[str, TextTokenizer], kind: str, text: str
) -> None:
    row = trained[kind].encode_with_offsets([text])[0]
    if row.tokens == [UNK] and row.offsets == [(0, len(text))]:
        return
    byte_level = decoders.ByteLevel()
    for token, (start, end) in zip(row.tokens, row.offsets, strict=True):
        assert 0 <= start < end <= len(text)
        piece = token.removeprefix("##") if kind == "wordpiece" and token != "##" else token
        piece = byte_level.decode([token]) if kind == "bpe" and token != "\t" else piece
        if token == UNK or "\ufffd" in piece:  # not in the vocabulary; some bytes of a character
            continue
        inside = normalised(text[start:end], kind)
        assert without_marks(piece) in without_marks(inside)
        if not two_marks_in_a_row(text):  # or else they may have changed places
            assert piece in inside


def without_marks(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def two_marks_in_a_row(text: str) -> bool:
    marks = [unicodedata.combining(c) > 0 for c in unicodedata.normalize("NFKD", text.lower())]
    return any(one and other for one, other in pairwise(marks))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Don't STOP, cafe\u0301!", ["Don't", "STOP", ",", "cafe\u0301", "!"]),
        ("so...good....", ["so", "...", "good", "...."]),
        ("👍🏽👩‍👩‍👧🇫🇷 ❤️", ["👍🏽", "👩‍👩‍👧", "🇫🇷", "❤️"]),
        ("great<br /><br/>movie", ["great", "movie"]),
        ("Ａ１ ﬁne\u3000ｶﾞ", ["Ａ１", "ﬁne", "ｶﾞ"]),
        ("\u1112\u1161\u11ab국 x", ["\u1112\u1161\u11ab국", "x"]),
        ("日本語 العربية", ["日本語", "العربية"]),
        ("snake_case 3.14 it’s", ["snake_case", "3", ".", "14", "it’s"]),
    ],
)
def test_words(text: str, pieces: list[str]) -> None:
    tokenizer = train("word", [text])
    row = tokenizer.encode_with_offsets([text])[0]
    assert [text[start:end] for start, end in row.offsets] == pieces
    assert row.tokens == [unicodedata.normalize("NFKC", piece).lower() for piece in pieces]
    assert row.word_ids == sorted(set(row.word_ids))


@pytest.mark.parametrize(
    ("formula", "pieces"),
    [
        ("LiFePO4", ["Li", "Fe", "P", "O", "4"]),
        ("Ag0.5Ge1Pb1.75Se4", ["Ag", "0.5", "Ge", "1", "Pb", "1.75", "Se", "4"]),
        ("Ca(OH)2", ["Ca", "(", "O", "H", ")", "2"]),
        ("Co", ["Co"]),
        ("CO", ["C", "O"]),
        ("Na.5 [NH4]+", ["Na", ".5", "[", "N", "H", "4", "]", "+"]),
    ],
)
def test_formulas(formula: str, pieces: list[str]) -> None:
    assert tokens(train("formula", [formula]), formula) == pieces


def test_lower_case_is_the_default_but_for_formulas() -> None:
    for kind in TYPES:
        for lowercase in (None, True, False):
            tokenizer = train(kind, ["Ab Ab Ab ab"], lowercase=lowercase)
            folds = kind != "formula" if lowercase is None else lowercase
            assert tokens(tokenizer, "Ab") == tokens(tokenizer, "ab") if folds else tokens(tokenizer, "Ab") != tokens(
                tokenizer, "ab"
            ), (kind, lowercase)  # fmt: skip


def test_normalisation_can_be_left_out() -> None:
    assert tokens(
        train("word", ["Ａ ﬁ<br />"], nfkc=False, lowercase=False, strip_html_breaks=False), "Ａ ﬁ<br />"
    ) == [*("Ａ", "ﬁ", "<", "br", "/", ">")]


def test_the_vocabulary_comes_from_the_given_texts_and_the_most_frequent_words() -> None:
    tokenizer = train("word", ["b b b a a c c d"], vocab_size=10, min_frequency=2)
    assert tokenizer.backend.get_vocab() == {PAD: 0, UNK: 1, "b": 2, "a": 3, "c": 4}
    assert tokens(tokenizer, "a d e") == ["a", UNK, UNK]
    many = train("word", [" ".join(f"w{i}" for i in range(50))], vocab_size=20)
    assert many.vocab_size == 20


@pytest.mark.parametrize("kind", TYPES)
def test_ids_are_dense_and_special_tokens_come_first(trained: dict[str, TextTokenizer], kind: str) -> None:
    tokenizer = trained[kind]
    vocabulary = tokenizer.backend.get_vocab()
    assert sorted(vocabulary.values()) == list(range(tokenizer.vocab_size))
    assert (tokenizer.pad_id, tokenizer.unk_id) == (0, 1)
    assert tokenizer.backend.token_to_id("\t") == tokenizer.vocab_size - 1


def sums_of_tokenizers() -> list[str]:
    """Of every type, with a vocabulary that is full and one that is not."""
    texts = list(read_corpus(DataConfig(path="bundled:reviews")).train)
    # Many words equally often, and sentences without spaces: ties to be broken, rare characters to be given scores.
    words = ["".join(chr(0x4E00 + 4 * i + j) for j in range(4)) for i in range(100)]
    texts = texts[:250] + ["".join(words[i * j % 101 % 100] for j in range(1, 5)) for i in range(100)] * 2
    found = []
    for kind in ("word", "wordpiece", "bpe", "unigram", "char", "formula"):
        for size in (700, 30_000):
            config = TokenizerConfig.model_validate({"type": kind, "vocab_size": size, "min_frequency": 1})
            files = train_tokenizer(config, iter(texts), 1).to_files()
            found.append(f"{kind}-{size}-{hashlib.sha256(files['tokenizer.json'].encode()).hexdigest()}")
    return found


def test_every_type_is_the_same_in_every_process() -> None:
    """Here, in one thread, and in a process with several threads, in which strings have other hashes."""
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    root = Path(__file__).parent
    threads = {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "2"}
    path = os.pathsep.join([str(root.parent), str(root)])
    done = subprocess.run(
        [sys.executable, "-c", "import test_tokenizer; print(*test_tokenizer.sums_of_tokenizers())"],
        env={**os.environ, **threads, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    found = sums_of_tokenizers()
    assert len(found) == 12 and done.stdout.split() == found


def test_wordpiece_and_unigram_split_and_join_words() -> None:
    texts = ["low lower lowest slow slower", "lowly slowly"] * 20
    for kind in ("wordpiece", "unigram", "bpe"):
        tokenizer = train(kind, texts, vocab_size=265 if kind == "bpe" else 24)
        row = tokenizer.encode_with_offsets(["lowest slowly"])[0]
        assert UNK not in row.tokens and len(row.tokens) > 2
        assert len(set(row.word_ids)) == 2
        ends = [end for _, end in row.offsets]
        assert [start for start, _ in row.offsets] == [0, *(e + (e == 6) for e in ends[:-1])]
        joined = "".join(token.removeprefix("##") for token in row.tokens)
        assert joined == "lowestslowly"


def test_wordpiece_spends_its_vocabulary_on_pieces_that_occur() -> None:
    vocabulary = train("wordpiece", ["low lower lowest slow slower! - lowly slowly"] * 20).backend.get_vocab()
    assert {piece for piece in vocabulary if len(piece) == 3 and piece[:2] == "##"} == {f"##{c}" for c in "erstlowy"}
    assert "##!" not in vocabulary and {"!", "-", "lowly"} <= set(vocabulary)


def test_unigram_prefers_pieces_that_are_frequent() -> None:
    tokenizer = train("unigram", ["unbelievable believable believe", "unkind kind kindness"] * 20, vocab_size=40)
    assert tokens(tokenizer, "unbelieve") == ["un", "believ", "e"]


def test_a_vocabulary_smaller_than_the_alphabet() -> None:
    texts = ["".join(map(chr, range(0x4E00, 0x4E00 + 200)))]
    with pytest.raises(InputError) as caught:
        train("unigram", texts, vocab_size=50)
    assert (
        caught.value.message == "tokenizer.vocab_size: 50 is less than the number of different characters in the texts"
    )
    assert caught.value.hint == "tokenizer.vocab_size=30000, or tokenizer.type=char"
    assert train("char", texts, vocab_size=50).vocab_size <= 50


@pytest.mark.parametrize("kind", TYPES)
def test_special_tokens_in_a_text_are_plain_text(trained: dict[str, TextTokenizer], kind: str) -> None:
    tokenizer = trained[kind]
    row = tokenizer.encode_with_offsets(["good [PAD] bad [UNK]"])[0]
    assert tokenizer.pad_id not in row.input_ids
    assert (5, 10) not in row.offsets, "the brackets stand for themselves"


@pytest.mark.parametrize("kind", TYPES)
def test_encode_gives_the_tokens_of_encode_with_offsets(trained: dict[str, TextTokenizer], kind: str) -> None:
    tokenizer = trained[kind]
    texts = [*TEXTS, *PIECES, "", "   ", "x" * 300, "a\tb"]
    arrays = tokenizer.encode(iter(texts))
    rows = tokenizer.encode_with_offsets(texts)
    ids = [arrays.ids[a:b].tolist() for a, b in zip(arrays.starts[:-1], arrays.starts[1:], strict=True)]
    assert ids == [row.input_ids for row in rows]
    assert len(arrays) == len(texts) and arrays.lengths.tolist() == list(map(len, ids))
    assert arrays.num_unknown == sum(row.input_ids.count(tokenizer.unk_id) for row in rows)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("text", ["", "   ", "\n", "<br />"])
def test_a_text_without_tokens_is_one_unknown_token(trained: dict[str, TextTokenizer], kind: str, text: str) -> None:
    row = trained[kind].encode_with_offsets([text])[0]
    assert (row.tokens, row.input_ids, row.offsets) == ([UNK], [1], [(0, len(text))]) and not row.truncated
    assert trained[kind].encode([text]).num_unknown == 1


def test_no_texts() -> None:
    arrays = train("word").encode([])
    assert len(arrays) == 0 and arrays.ids.size == 0


@pytest.mark.parametrize(
    ("truncation", "max_length", "kept"),
    [
        ("head", 3, [0, 1, 2]),
        ("tail", 3, [5, 6, 7]),
        ("head_tail", 3, [0, 1, 7]),
        ("head_tail", 4, [0, 1, 6, 7]),
        ("head_tail", 1, [0]),
        ("tail", 1, [7]),
        ("head_tail", 8, list(range(8))),
    ],
)
def test_truncation(truncation: str, max_length: int, kept: list[int]) -> None:
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven"]
    text = " ".join(words)
    tokenizer = train("word", [text], truncation=truncation, max_length=max_length)
    row = tokenizer.encode_with_offsets([text])[0]
    assert row.tokens == [words[i] for i in kept] == [text[start:end] for start, end in row.offsets]
    assert row.word_ids == kept and row.truncated == (max_length < 8)
    arrays = tokenizer.encode([text, "one", ""])
    assert arrays.ids[: len(kept)].tolist() == row.input_ids
    assert arrays.num_truncated == int(max_length < 8)


def read(folder: Path) -> TextTokenizer:
    names = ("tokenizer.json", "tokenizer_config.json")
    return TextTokenizer.from_files(*((folder / name).read_bytes() for name in names), str(folder))


@pytest.mark.parametrize("kind", TYPES)
def test_a_saved_tokenizer_reads_back_the_same(trained: dict[str, TextTokenizer], kind: str, tmp_path: Path) -> None:
    for name, content in trained[kind].to_files().items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    again = read(tmp_path)
    assert again.to_files() == trained[kind].to_files()
    texts = [*TEXTS, *PIECES, "[PAD]"]
    assert again.encode_with_offsets(texts) == trained[kind].encode_with_offsets(texts)
    assert np.array_equal(again.encode(texts).ids, trained[kind].encode(texts).ids)
    facts = (again.kind, again.num_segments, again.max_length, again.truncation)
    assert facts == (kind, 2, 256, "head")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": {"type": "WordLevel"}}', "\x00"])
def test_a_damaged_tokenizer_json(content: str) -> None:
    with pytest.raises(InputError) as caught:
        TextTokenizer.from_files(content.encode(), b"{}", "run")
    assert caught.value.message.startswith("run/tokenizer.json: not a tokenizer (")


@pytest.mark.parametrize(
    "change",
    [
        {"model_max_length": None},
        {"model_max_length": 0},
        {"truncation": "middle"},
        {"num_segments": "x"},
        "[]",
        "{",
        "",
    ],
)
def test_a_damaged_tokenizer_config(change: dict[str, object] | str) -> None:
    files = train("word").to_files()
    settings = change if isinstance(change, str) else json.dumps(json.loads(files["tokenizer_config.json"]) | change)
    with pytest.raises(InputError, match=r"^run/tokenizer_config.json: damaged \("):
        TextTokenizer.from_files(files["tokenizer.json"].encode(), settings.encode(), "run")


def pretrained(path: Path, segments: int = 1) -> TextTokenizer:
    config = TokenizerConfig(type="pretrained", path=str(path))
    return train_tokenizer(config, iter(["never read"]), segments)


def test_a_pretrained_tokenizer_from_a_file_or_a_folder(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "good": 2, "film": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.normalizer = normalizers.Lowercase()
    backend.enable_truncation(1)
    backend.enable_padding(length=50)
    backend.save(str(tmp_path / "tokenizer.json"))
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        tokenizer = pretrained(path)
        assert tokenizer.encode(["Good bad film", "<pad> good"]).ids.tolist() == [2, 1, 3, 1, 2]
        assert tokenizer.encode_with_offsets(["<pad> good"])[0].input_ids == [1, 2]
        assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.vocab_size, tokenizer.kind) == (0, 1, 4, "pretrained")
    assert pretrained(tmp_path, segments=2).encode_with_offsets(["good\tfilm"])[0].tokens == ["good", "\t", "film"]


def test_a_pretrained_tokenizer_without_padding_gets_it(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"good": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = pretrained(tmp_path)
    assert (tokenizer.pad_id, tokenizer.vocab_size) == (2, 3)
    for name, content in tokenizer.to_files().items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert read(tmp_path).pad_id == 2
