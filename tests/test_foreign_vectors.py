"""Word vectors from elsewhere: every format, written by the library that it comes from where that is installed."""

from __future__ import annotations

import gzip
import os
import pickle
import resource
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from foreign_files import (
    ALL,
    DIM,
    EXPECTED,
    MATRIX,
    TOKENIZER,
    WORDS,
    WRITERS,
    agree,
    by_word,
    gzipped,
    keyed,
    word_tokenizer,
    write_binary,
    write_fasttext,
    write_glove,
    write_spacy,
    write_static,
    write_text,
    zipped,
)
from gensim.models import FastText, KeyedVectors
from gensim.models.fasttext import load_facebook_vectors, save_facebook_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

from textattn.config.model_section import TokenizerConfig
from textattn.errors import InputError
from textattn.tokens.foreign import open_vectors, read_vectors
from textattn.tokens.foreign.spacy_model import key_of
from textattn.tokens.foreign.static import StaticVectors
from textattn.tokens.tokenizer import TextTokenizer
from textattn.tokens.train_tokenizer import train_tokenizer


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_read_by_its_content(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path / "any.name")
    assert open_vectors(path).dim == DIM
    vectors = read_vectors(path, TOKENIZER)
    agree(by_word(vectors), EXPECTED, 1e-6)
    assert vectors.matrix.tobytes() == read_vectors(path, TOKENIZER).matrix.tobytes()
    with pytest.raises(InputError, match=rf"{DIM} numbers.*, but model.embedding_dim is 9") as caught:
        read_vectors(path, TOKENIZER, 9)
    assert caught.value.hint == f"model.embedding_dim={DIM}"


@pytest.mark.parametrize("pack", [lambda write: write, gzipped, zipped], ids=["plain", "gzip", "zip"])
def test_fasttext_knows_words_by_their_parts(pack: Any, tmp_path: Path) -> None:
    path = pack(write_fasttext)(tmp_path / "model")
    write_fasttext(tmp_path / "plain.bin")
    oracle = load_facebook_vectors(str(tmp_path / "plain.bin"))
    words = ["good", "bad", "film", "日本", "naïve", "don't", "the", "a", "😀", "goods", "filmé", "日本語", "xq", "ö"]
    tokenizer = word_tokenizer(" ".join(words))
    assert not set(words) <= set(oracle.key_to_index)
    agree(by_word(read_vectors(path, tokenizer), tokenizer), {word: oracle[word] for word in words}, 1e-5)


def test_parts_of_one_character_are_no_edges_of_the_word(tmp_path: Path) -> None:
    model = FastText([WORDS] * 5, vector_size=DIM, min_count=1, min_n=1, max_n=2, bucket=50, epochs=1, workers=1)
    save_facebook_model(model, str(tmp_path / "x.bin"))
    oracle = load_facebook_vectors(str(tmp_path / "x.bin"))
    found = by_word(read_vectors(tmp_path / "x.bin", TOKENIZER))
    agree(
        {word: found[word] for word in ("good", "日本", "unseen")},
        {w: oracle[w] for w in ("good", "日本", "unseen")},
        1e-5,
    )


def test_fasttext_without_parts_knows_its_own_words_only(tmp_path: Path) -> None:
    model = FastText([WORDS] * 5, vector_size=DIM, min_count=1, max_n=0, min_n=0, bucket=0, epochs=1, workers=1, seed=1)
    save_facebook_model(model, str(tmp_path / "x.bin"))
    found = by_word(read_vectors(tmp_path / "x.bin", TOKENIZER))
    agree(found, {word.lower(): model.wv[word] for word in WORDS}, 1e-6)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), min_size=1,
                        max_size=9), min_size=1, max_size=6, unique=True))  # fmt: skip
def test_words_of_odd_characters(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    """As gensim reads the same files, in text, binary, and of parts of words."""
    folder = tmp_path_factory.mktemp("odd")
    # A word may be "[UNK]" itself.
    vocabulary = {word: row for row, word in enumerate(dict.fromkeys(["[PAD]", "[UNK]", *words]))}
    tokenizer = TextTokenizer(Tokenizer(models.WordLevel(vocabulary, "[UNK]")), max_length=9, truncation="head")
    matrix = np.random.default_rng(1).normal(size=(len(words), 3)).astype(np.float32)
    vectors = KeyedVectors(3)
    vectors.add_vectors(words, matrix)
    for binary in (False, True):
        path = folder / f"v{binary}"
        vectors.save_word2vec_format(str(path), binary=binary)
        oracle = KeyedVectors.load_word2vec_format(str(path), binary=binary)
        found = read_vectors(path, tokenizer)
        agree(by_word(found, tokenizer), {word: oracle[word] for word in words}, 1e-6)
    model = write_fasttext(folder / "model.bin")
    oracle = load_facebook_vectors(str(model))
    for word, vector in by_word(read_vectors(model, tokenizer), tokenizer).items():
        spellings = [w for w in oracle.key_to_index if w.lower() == word]
        exact = word if word in oracle.key_to_index or not spellings else spellings[0]
        np.testing.assert_allclose(vector, oracle.get_vector(exact), atol=1e-5, err_msg=repr(word))


@pytest.mark.parametrize("write", [write_text, write_binary, write_fasttext, write_static])
def test_a_word_numbered_above_the_last_row_has_none(write: Any, tmp_path: Path) -> None:
    """A tokenizer made elsewhere may number its words with gaps."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 9}
    tokenizer = TextTokenizer(Tokenizer(models.WordLevel(vocabulary, "[UNK]")), max_length=9, truncation="head")
    found = read_vectors(write(tmp_path / "vectors"), tokenizer)
    assert found.matrix.shape == (4, DIM)
    assert found.found.tolist() == [False, False, True, False]


def test_keys_are_those_of_spacy() -> None:
    """Known from spaCy's documentation."""
    known = {"coffee": 3197928453018144401, "apple": 8566208034543834098, "": 0}
    assert {word: key_of(word) for word in known if word} == {w: k for w, k in known.items() if w}


def test_static_embeddings_average_the_pieces_of_a_word(tmp_path: Path) -> None:
    write_static(tmp_path)
    pieces = {"[PAD]": 0, "[UNK]": 1, "un": 2, "##seen": 3, "good": 4}
    Tokenizer(models.WordPiece(pieces, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    matrix = np.arange(10, dtype=np.float32).reshape(5, 2)
    save_file({"embedding.weight": matrix}, tmp_path / "model.safetensors")
    tokenizer = word_tokenizer("unseen good else")
    agree(by_word(read_vectors(tmp_path, tokenizer), tokenizer), {"unseen": matrix[2:4].mean(0), "good": matrix[4]})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int8"])
def test_static_embeddings_of_every_precision(dtype: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file as save_tensors

    write_static(tmp_path)
    matrix = torch.from_numpy(np.concatenate([np.zeros((2, DIM), np.float32), MATRIX * 20])).to(getattr(torch, dtype))
    save_tensors({"embeddings": matrix}, tmp_path / "model.safetensors")
    expected = {word.lower(): matrix[i].float().numpy() for i, word in enumerate(WORDS, 2)}
    agree(by_word(read_vectors(tmp_path, TOKENIZER)), expected)


def test_weights_and_shared_rows_of_model2vec(tmp_path: Path) -> None:
    weights = np.linspace(1, 2, len(WORDS) + 2)
    mapping = np.arange(len(WORDS) + 2)[::-1].copy()
    write_static(tmp_path, weights=weights, mapping=mapping)
    rows = np.concatenate([np.zeros((2, DIM), np.float32), MATRIX])
    expected = {w.lower(): rows[mapping[i]] * weights[i] for i, w in enumerate(WORDS, 2)}
    agree(by_word(read_vectors(tmp_path, TOKENIZER)), {w: v for w, v in expected.items() if v.any()}, 1e-5)


def test_the_same_tokenizer_takes_its_rows_one_to_one(tmp_path: Path) -> None:
    """Also where a piece, tokenised as a text, would be other pieces: `##seen` is never at the beginning."""
    pieces = {"[PAD]": 0, "[UNK]": 1, "un": 2, "##seen": 3, "good": 4, "s": 5}
    Tokenizer(models.WordPiece(pieces, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    matrix = np.arange(12, dtype=np.float32).reshape(6, 2)
    save_file({"embeddings": matrix}, tmp_path / "model.safetensors")
    config = TokenizerConfig(type="pretrained", path=str(tmp_path / "tokenizer.json"))
    for segments in (1, 2):
        tokenizer = train_tokenizer(config, iter([]), segments)
        vectors = read_vectors(tmp_path, tokenizer)
        assert np.array_equal(vectors.matrix[:6], matrix)
        assert vectors.found[:6].all() and not vectors.found[6:].any()


@pytest.mark.parametrize("layout", ["", "0_StaticEmbedding"])
def test_a_folder_is_searched_one_level_deep(layout: str, tmp_path: Path) -> None:
    write_static(tmp_path / layout, "embedding.weight")
    (tmp_path / "modules.json").write_text("[]")
    assert isinstance(open_vectors(tmp_path), StaticVectors)


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    write_glove(tmp_path / "vectors")
    (tmp_path / ".gitattributes").write_text("x")
    agree(by_word(read_vectors(tmp_path, TOKENIZER)), EXPECTED, 1e-6)


# What is not read


def refused(path: Path, **arguments: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_vectors(path, TOKENIZER, **arguments)
    assert caught.value.exit_code == 3
    return caught.value.message.replace(str(path), "PATH")


class Bomb:
    """Would leave a file behind if it was unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_never_read(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "ran"), protocol))
    with pytest.raises(InputError) as caught:
        read_vectors(tmp_path / "x.bin", TOKENIZER)
    assert "a pickle written by gensim's `save` or torch; reading one can run any code" in caught.value.message
    assert caught.value.hint == "save_word2vec_format(PATH, binary=True) of gensim writes a safe format"
    assert not (tmp_path / "ran").exists()


def test_pickles_in_the_files_of_libraries_are_never_read(tmp_path: Path) -> None:
    keyed().save(str(tmp_path / "gensim"))
    assert "a pickle" in refused(tmp_path / "gensim")
    torch.save({"a": torch.zeros(2)}, tmp_path / "x.pt")
    assert "a pickle written by torch" in refused(tmp_path / "x.pt")
    np.save(tmp_path / "plain.npy", MATRIX)
    assert "a matrix of numpy, which does not say which row is which word" in refused(tmp_path / "plain.npy")
    write_spacy(tmp_path / "spacy")
    objects = np.array([[Bomb(tmp_path / "ran")] * 2] * 2, dtype=object)
    with (tmp_path / "spacy/vocab/vectors").open("wb") as file:
        np.save(file, objects, allow_pickle=True)
    assert "a pickle written by numpy" in refused(tmp_path / "spacy")
    assert not (tmp_path / "ran").exists()


def test_quantised_and_hashed_models_are_refused_with_a_reason(tmp_path: Path) -> None:
    content = bytearray(write_fasttext(tmp_path / "x.bin").read_bytes())
    content[start_of_matrix(content) - 17] = 1
    (tmp_path / "x.ftz").write_bytes(content)
    assert "a quantised model of fastText (.ftz), whose vectors are only approximate" in refused(tmp_path / "x.ftz")
    write_spacy(tmp_path / "spacy")
    (tmp_path / "spacy/vocab/vectors.cfg").write_text('{"mode": "floret"}')
    assert "vectors of floret, which are hashed and have no words, are not read" in refused(tmp_path / "spacy")


def start_of_matrix(content: bytes | bytearray) -> int:
    """Where the first row is; before it stand one byte (quantised or not) and two numbers of eight bytes."""
    size = len(WORDS) + 50
    found = bytes(content).find(struct.pack("<qq", size, DIM))
    assert found > 0
    return found + 16


def test_a_zip_of_several_files_lists_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for size in (50, 100):
            archive.writestr(f"glove.{size}d.txt", "good 1 2")
    with pytest.raises(InputError) as caught:
        read_vectors(tmp_path / "x.zip", TOKENIZER)
    assert "a zip of 2 files (glove.50d.txt, glove.100d.txt); one file of vectors is read" in caught.value.message
    assert caught.value.hint == f"unzip {tmp_path / 'x.zip'}, and name one of the files"


def test_other_models_are_refused(tmp_path: Path) -> None:
    write_static(tmp_path, layer=np.zeros((2, 2), np.float32))
    assert "2 tensors; static embeddings are one matrix" in refused(tmp_path)
    write_static(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert "there is no tokenizer.json beside it" in refused(tmp_path / "model.safetensors")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_locked_folder(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    assert "cannot be read" in refused(tmp_path / "locked")


def test_names_and_places_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / ("x" * 300))
    write_spacy(tmp_path / "pipes")
    for name in ("vectors", "key2row"):
        (tmp_path / "pipes/vocab" / name).unlink()
        os.mkfifo(tmp_path / "pipes/vocab" / name)
    assert "a folder without vectors" in refused(tmp_path / "pipes")
    write_static(tmp_path / "static")
    (tmp_path / "static/tokenizer.json").unlink()
    os.mkfifo(tmp_path / "static/tokenizer.json")
    assert "no tokenizer.json beside it" in refused(tmp_path / "static/model.safetensors")


# Damage


LIMIT = 2**29
# What is read with so little memory that a matrix of a hostile header would not fit, and in how many seconds.
HOSTILE = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from foreign_files import TOKENIZER
from textattn.tokens.foreign import read_vectors
from textattn.errors import InputError
def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = used()
for path in sys.argv[1:]:
    start = time.perf_counter()
    try:
        read_vectors(Path(path), TOKENIZER)
        print("read")
    except InputError as error:
        print(error.message.replace("\\n", " ").replace(path, "PATH"))
    assert time.perf_counter() - start < 20, path
assert used() - before < {limit}, used() - before
"""


def answers(paths: list[Path]) -> list[str]:
    """What is said of files that want too much, read in one process with bounds of memory and time."""
    script = HOSTILE.format(tests=str(Path(__file__).parent), limit=LIMIT)
    done = subprocess.run([sys.executable, "-c", script, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_headers_that_announce_more_than_there_is(tmp_path: Path) -> None:
    huge = 2**31 - 1
    fasttext = bytearray(write_fasttext(tmp_path / "ft").read_bytes())
    matrix = start_of_matrix(fasttext)
    without = FastText([WORDS] * 5, vector_size=DIM, min_count=1, max_n=0, min_n=0, bucket=0, epochs=1, workers=1)
    save_facebook_model(without, str(tmp_path / "without"))
    plain = (tmp_path / "without").read_bytes()
    rows = plain.find(struct.pack("<qq", len(WORDS), DIM))
    files = {
        "fastText, rows without parts": plain[:rows] + struct.pack("<q", 2**50) + plain[rows + 8 :],
        "more words": b"99999999999999 6\n" + b"good " + bytes(24),
        "larger vectors": b"1 99999999999\ngood " + bytes(24),
        "larger vectors, text": b"1 99999999999\ngood 1",
        "no size": b"3 0\ngood \0",
        "no words": b"0 3\n\0\0",
        "fastText, words": bytes(fasttext[:64]) + struct.pack("<ii", huge, huge) + bytes(fasttext[72:]),
        "fastText, size": bytes(fasttext[:8]) + struct.pack("<i", huge) + bytes(fasttext[12:]),
        "fastText, rows": bytes(fasttext[: matrix - 16]) + struct.pack("<q", 2**60) + bytes(fasttext[matrix - 8 :]),
        "fastText, negative": bytes(fasttext[: matrix - 16]) + struct.pack("<q", -1) + bytes(fasttext[matrix - 8 :]),
        "fastText, buckets": bytes(fasttext[:40]) + struct.pack("<i", -5) + bytes(fasttext[44:]),
        "safetensors": struct.pack("<Q", 2**31) + b'{"a": 1}',
    }
    paths = [tmp_path / name for name in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.write_bytes(content)
    packed = []
    for path in paths:
        packed.append(path.with_suffix(".gz"))
        packed[-1].write_bytes(gzip.compress(path.read_bytes()))
    found = answers([*paths, *packed])
    assert "read" not in found, dict(zip([*files, *files], found, strict=True))
    assert len(found) == 2 * len(files)


def test_bombs(tmp_path: Path) -> None:
    """A file that unpacks to a thousand times its size, with words and without."""
    zeros = b"0" * 2**20
    files = []
    for name, block in (("line", zeros), ("words", (b"other" + b" 1" * 500 + b"\n") * 1000)):
        with gzip.open(tmp_path / f"{name}.gz", "wb") as file:
            for _ in range(150):
                file.write(block)
        with (
            zipfile.ZipFile(tmp_path / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("vectors", "w") as member,
        ):
            for _ in range(150):
                member.write(block)
        files += [tmp_path / f"{name}.gz", tmp_path / f"{name}.zip"]
    line_gz, line_zip, words_gz, words_zip = answers(files)
    for said in (line_gz, line_zip):
        assert "a line of more than 4,194,304 bytes" in said or "of none of the formats" in said
    for said in (words_gz, words_zip):
        assert "unpacks to more than 100 times its size, which no word vectors do" in said


@pytest.mark.parametrize("name", [*ALL, "fastText", "gzipped word2vec", "zipped glove"])
def test_a_file_cut_off_anywhere_is_an_error_or_reads_less(name: str, tmp_path: Path) -> None:
    write = {"fastText": write_fasttext}.get(name) or WRITERS[name]
    path = write(tmp_path / "whole")
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    for file in files:
        whole = file.read_bytes()
        silent = 0
        for size in range(0, len(whole), max(1, len(whole) // 300)):
            file.write_bytes(whole[:size])
            try:
                found = read_vectors(path, TOKENIZER)
            except InputError as error:
                assert str(path) in error.message
            else:
                silent += 1
                assert found.matrix.shape == (TOKENIZER.vocab_size, DIM) or name == "glove"
        if name in ("word2vec", "original word2vec", "gzipped word2vec", "spacy", "model2vec"):
            assert silent <= (1 if name == "original word2vec" else 0), (name, file.name)
        file.write_bytes(whole)


@pytest.mark.parametrize("name", [*ALL, "fastText"])
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_bytes_changed_anywhere_are_an_error_or_other_numbers(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    write = {"fastText": write_fasttext}.get(name) or WRITERS[name]
    path = write(tmp_path_factory.mktemp("changed") / "whole")
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    file = data.draw(st.sampled_from(files))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    start = time.perf_counter()
    try:
        vectors = read_vectors(path, TOKENIZER)
    except InputError as error:
        assert str(path) in error.message
    else:
        assert np.isfinite(vectors.matrix).all()
    assert time.perf_counter() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2**23  # kilobytes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"3 2\ngood 1 2\nbad 3 4\n", "PATH:3: model.vectors.path: the file ends after 2 of the 3 words"),
        (
            b"2 2\ngood " + bytes(8) + b"bad " + bytes(8) + b"more",
            "PATH: model.vectors.path: goes on after the 2 words",
        ),
        (b"1 1\n\0" + b"x" * 70_000, "PATH: model.vectors.path: a word of more than 65,536 bytes"),
        (b"\x01\x02\x03\x00", "PATH: model.vectors.path: of none of the formats that are read: text of word2vec"),
        (struct.pack("<ii", 793712314, 99), "PATH: model.vectors.path: version 99 of fastText's format"),
        (b"1 1\ngood " + struct.pack("<f", float("nan")), "PATH, word 1 at byte 4: a number is not finite"),
    ],
)
def test_damage_is_said_with_its_place(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    assert refused(tmp_path / "x").startswith(message)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("strings.json", b"[", "PATH/vocab/strings.json: model.vectors.path: damaged ("),
        ("strings.json", b"[" * 100_000, "PATH/vocab/strings.json: model.vectors.path: damaged ("),
        ("strings.json", b"{}", "PATH/vocab/strings.json: model.vectors.path: damaged (not a list of words)"),
        ("key2row", b"", "PATH/vocab/key2row: model.vectors.path: damaged (not a map from keys to rows)"),
        ("key2row", b"\xdf\xff\xff\xff\xff\x01", "PATH/vocab/key2row: model.vectors.path: damaged (it ends after 0 of"),
        ("key2row", msgpack.packb({key_of("good"): 99}), "PATH/vocab/key2row: model.vectors.path: damaged (row 99 of"),
        ("key2row", msgpack.packb({"a": 1}), "PATH/vocab/key2row: model.vectors.path: damaged (it ends after 0 of"),
        ("vectors", b"\x93NUMPY\x01\x00\x76\x00{", "PATH/vocab/vectors: model.vectors.path: cannot be read ("),
        ("vectors", b"", "PATH/vocab/vectors: model.vectors.path: cannot be read ("),
    ],
)
def test_damage_of_a_spacy_model_is_said_with_its_place(
    file: str, content: bytes, message: str, tmp_path: Path
) -> None:
    write_spacy(tmp_path / "model")
    (tmp_path / "model/vocab" / file).write_bytes(content)
    assert refused(tmp_path / "model").startswith(message)
