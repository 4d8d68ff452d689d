"""Bad input: broken configs, settings that contradict, and directories that cannot be written. A kind a row."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import shutil
from pathlib import Path

import bad_input
import pytest
from bad_input import MINE, REVIEWS, Case, Content, check, permissions_count, room_for

world = bad_input.world
DATA = "data: {path: reviews.csv}\n"
SHIPPED = "shipped configs: ***quickstart***"
SEVERAL = "".join(json.dumps({"text": f"fine {i}", "label": ["a", "b"][: i % 2 + 1]}) + "\n" for i in range(12))
THREE = "text,label\n" + "".join(f"fine {i},{i % 3}\n" for i in range(12))
VECTORS = "model.vectors.source=file model.vectors.path=bad.vec"


def config(name: str, content: Content, error: str, hint: str | None = None) -> Case:
    """Training with this config."""
    return Case(name, {"bad.yaml": content}, "train bad.yaml", 2, error, hint)


def setting(name: str, words: str, error: str, hint: str | None = None, code: int = 2) -> Case:
    """Training with these overrides."""
    return Case(name, {}, f"train mine.yaml {words}", code, error, hint)


def override(name: str, word: str, error: str) -> Case:
    return setting(name, shlex.quote(word), f"override '{word}': {error}", "textattn schema")


def vectors(name: str, content: Content, error: str, hint: str | None = None) -> Case:
    return Case(f"vectors: {name}", {"bad.vec": content}, f"train mine.yaml {VECTORS}", 3, error, hint)


def sparse(path: Path, size: int) -> None:
    """A file of zeros that takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(size)


def locked(path: Path) -> None:
    path.write_text(MINE)
    path.chmod(0)


CONFIGS = [
    config("a key misspelt", DATA + "training:\n  epoch: 2\n",
           "bad.yaml:3: training.epoch: unknown key; did you mean 'epochs'?", "textattn schema"),
    config("no such section", DATA + "optimizer: {lr: 1}\n",
           "bad.yaml:2: optimizer: unknown key; valid keys: seed, recipe, task, data, start, tokenizer, model, "
           "training, output",
           "textattn schema"),
    config("a word for a number", DATA + "training:\n  epochs: two\n",
           "bad.yaml:3: training.epochs: must be a whole number, got 'two'", "textattn check bad.yaml"),
    config("out of range", DATA + "model:\n  dropout: {words: 1.5}\n",
           "bad.yaml:3: model.dropout.words: must be less than 1, got 1.5", "textattn check bad.yaml"),
    config("no such choice", DATA + "model: {encoder: LSTMs}\n",
           "bad.yaml:2: model.encoder: must be one of 'gru', 'lstm', 'none', got 'LSTMs'; did you mean 'lstm'?",
           "textattn check bad.yaml"),
    config("path and files", "data:\n  path: reviews.csv\n  files: {train: reviews.csv}\n",
           "bad.yaml:3: data: give either data.path or data.files, not both", "textattn check bad.yaml"),
    config("neither path nor files", "data: {text: a}\n", "bad.yaml:1: data: give either data.path or data.files",
           "textattn check bad.yaml"),
    config("no data", "seed: 1\n", "bad.yaml:1: data: required but missing", "textattn check bad.yaml"),
    config("three mistakes", "seed: x\n" + DATA + "training:\n  epochs: 0\n  lr: 1\n",
           "bad.yaml:1: seed: must be a whole number, got 'x'\n"
           "bad.yaml:4: training.epochs: must be greater than 0, got 0\n"
           "bad.yaml:5: training.lr: unknown key; did you mean 'learning_rate'?", "textattn schema"),
    config("tabs", "data:\n\tpath: reviews.csv\n",
           "bad.yaml:2:1: a tab cannot be used for indentation or spacing; use spaces"),
    config("a key twice", f"seed: 1\n{DATA}seed: 2\n", "bad.yaml:3: duplicate key 'seed' (first on line 1)"),
    config("a tag that runs code", DATA + "seed: !!python/object/apply:os.system ['touch executed']\n",
           "bad.yaml:2:7: tags (!...) are not supported; quote a text that begins with '!'"),
    config("a bomb of aliases", "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n" + DATA,
           "bad.yaml:2:8: aliases (*a) are not supported; repeat the value, or quote a text beginning with '*'"),
    config("a merge key", DATA + "model:\n  <<: {embedding_dim: 3}\n",
           "bad.yaml:3: merge keys (<<) are not supported; repeat the settings"),
    config("empty", "", "bad.yaml:1: empty; a mapping (key: value) is expected"),
    config("comments only", "# nothing\n", "bad.yaml:1: empty; a mapping (key: value) is expected"),
    config("a list", "- data\n", "bad.yaml:1: expected a mapping (key: value), got a list"),
    config("two documents", f"{DATA}---\n{DATA}", "bad.yaml:2:1: only one document is allowed; remove the line '---'"),
    config("an open quote", 'data: {path: "reviews.csv}\n', "bad.yaml:1:14: this quote is never closed"),
    config("an open bracket", "data: {path: reviews.csv\n",
           "bad.yaml:1:7: this mapping lacks a closing '}' or a ','"),
    config("nested without end", "data: " + "[" * 200, "bad.yaml:1:56: nested more than 50 levels deep"),
    config("latin-1", "seed: 1\ndata: {path: café.csv}\n".encode("latin-1"),
           "bad.yaml:2:17: byte 0xe9 is not UTF-8", "save the file as UTF-8"),
    config("UTF-16", DATA.encode("utf-16"), "bad.yaml:1:1: byte 0xff is not UTF-8", "save the file as UTF-8"),
    config("a control character", "data: {path: a\0}\n", r"bad.yaml:1:15: the character '\x00' is not allowed in YAML"),
    config("a pipe without a writer", os.mkfifo, "bad.yaml: a pipe that nobody writes to"),
    config("a device without an end", lambda path: path.symlink_to("/dev/zero"),
           "bad.yaml: a device or socket, not a file"),
    config("endless", lambda path: sparse(path, 10_000_001),
           "bad.yaml: larger than 10,000,000 bytes, the most that is read"),
    config("a folder", Path.mkdir, f"bad.yaml: a folder without data files, and not a config; {SHIPPED}",
           "textattn configs ls"),
    config("dangling link", lambda path: path.symlink_to("gone"),
           f"bad.yaml: no such file or shipped config; {SHIPPED}", "textattn configs ls"),
    Case("no permission", {"bad.yaml": locked}, "train bad.yaml", 2, "bad.yaml: Permission denied",
         within=permissions_count),
    *(Case(f"an empty name: {command} {name!r}", {}, f"{command} {shlex.quote(name)}", 2,
           "an empty name; expected a config, a data file or a folder of data", "textattn configs ls")
      for command in ("train", "check", "tune") for name in ("", " ")),
    Case("missing", {}, "train min.yaml", 2, "min.yaml: no such file or shipped config; did you mean 'mine.yaml'?",
         "textattn configs ls"),
    Case("a shipped one misspelt", {}, "check qickstart", 2,
         "qickstart: no such file or shipped config; did you mean 'quickstart'?", "textattn configs ls"),
    Case("nothing on stdin", {}, "train -", 2, "<stdin>:1: empty; a mapping (key: value) is expected"),
    Case("latin-1 on stdin", {}, "train -", 2, "<stdin>:1:17: byte 0xe9 is not UTF-8", "save the file as UTF-8",
         stdin="data: {path: café.csv}\n".encode("latin-1")),
    override("without =", "epochs", "expected key=value, got 'epochs'"),
    override("without a value", "training.epochs=", "the value is missing"),
    override("nothing for an option", "training.patience=", "the value is missing; write training.patience=null"),
    override("misspelt", "training.lr=1", "training.lr: unknown key; did you mean 'learning_rate'?"),
    override("a number for a section", "training=3", "training: must be a mapping, got 3"),
    override("below a number", "training.epochs.x=1", "training.epochs is not a section, it is 1"),
    override("an open list", "data.label_names=[a", "this list lacks a closing ']' or a ','"),
    setting("resume and overwrite", "--resume --overwrite", "--resume goes on with a run, --overwrite replaces it",
            "one of the two"),
]  # fmt: skip

CONTRADICTIONS = [
    Case("softmax with several labels", {"bad.jsonl": SEVERAL},
         "train mine.yaml data.path=bad.jsonl model.output=softmax", 2,
         "model.output: softmax predicts one label for each text, but texts of the data have several",
         "model.output=sigmoid"),
    Case("sigmoid with three labels", {"bad.csv": THREE}, "train mine.yaml data.path=bad.csv model.output=sigmoid", 2,
         "model.output: sigmoid needs two labels or multi-label data, but there are 3 labels", "model.output=softmax"),
    # With --overwrite: what is wrong must be known before the earlier run is removed.
    Case("a metric for one label with several", {"bad.jsonl": SEVERAL},
         "train mine.yaml data.path=bad.jsonl training.metric=balanced_accuracy output.dir=runs/earlier --overwrite", 2,
         "training.metric: balanced_accuracy is not defined for multi-label data; "
         "metrics are: accuracy, macro_f1, micro_f1, auroc, log_loss", "training.metric=micro_f1"),
    setting("weights for no label", "'training.class_weights={neg: 1, good: 2}' output.dir=runs/earlier --overwrite",
            "training.class_weights: give one weight for each of the labels neg, pos; missing or unknown: good, pos",
            "training.class_weights=balanced"),
    setting("an even window", "model.attention_window=4 output.dir=runs/earlier --overwrite",
            "model.attention_window: must be an odd number of tokens up to 999, got 4", "model.attention_window=5"),
    setting("a window of a million", "model.attention_window=1000001",
            "model.attention_window: must be an odd number of tokens up to 999, got 1000001",
            "model.attention_window=999"),
    setting("a window without weights", "model.attention=max model.attention_window=3",
            "model.attention_window: model.attention=max has no weights that depend on positions",
            "model.attention_window=1"),
    setting("supervision without evidence", "training.attention_supervision=1.0",
            "training.attention_supervision: needs data.evidence", "data.evidence=COLUMN"),
    setting("alignment without weights", "training.attention_alignment=1.0 model.attention=max",
            "training.attention_alignment: model.attention=max has no weights to learn",
            "training.attention_alignment=0.0"),
    setting("anchored without an encoder", "model.anchor=states model.encoder=none",
            "model.anchor: states needs an encoder; without one the states are the embeddings", "model.anchor=none"),
    setting("tied, of two sizes", "training.state_tying=1.0 model.hidden_size=9",
            "training.state_tying: model.hidden_size (9) and model.embedding_dim (8) must be equal",
            "model.hidden_size=8"),
    setting("heads that do not divide", "model.attention=self_attention model.num_heads=3",
            "model: num_heads must divide the state size 16, got 3"),
    setting("larger than the memory", "model.embedding_dim=10000000000000",
            "model: too large for the memory of this machine", "model.embedding_dim=128 model.hidden_size=128"),
    setting("a device that is not there", "training.device=cuda:99", "device 'cuda:99' is not available here",
            "training.device=auto"),
    setting("fp16 on the processor", "training.precision=fp16",
            "training.precision: fp16 needs CUDA, but the device is cpu", "training.precision=auto"),
    setting("pretrained without a path", "tokenizer.type=pretrained",
            "override 'tokenizer.type=pretrained': tokenizer: tokenizer.type=pretrained requires tokenizer.path, "
            "and no other type allows it", "textattn schema"),
    setting("no tokenizer there", "tokenizer.type=pretrained tokenizer.path=gone.json",
            "tokenizer.path: no such file or folder: gone.json", code=3),
    setting("no tokenizer there or on the Hub", "tokenizer.type=pretrained tokenizer.path=gone",
            "tokenizer.path: 'gone' is not a file or folder, and cannot be downloaded from the Hub: "
            "HF_HUB_OFFLINE is set", code=3),
    Case("a pipe as tokenizer", {"bad.json": os.mkfifo},
         "train mine.yaml tokenizer.type=pretrained tokenizer.path=bad.json", 3,
         "bad.json: tokenizer.path: a pipe, not a file"),
    Case("a device as tokenizer", {"bad.json": lambda path: path.symlink_to("/dev/zero")},
         "train mine.yaml tokenizer.type=pretrained tokenizer.path=bad.json", 3,
         "bad.json: tokenizer.path: a device or socket, not a file"),
    Case("not a tokenizer", {"bad.json": "{}"}, "train mine.yaml tokenizer.type=pretrained tokenizer.path=bad.json", 3,
         "bad.json: tokenizer.path: not a tokenizer (***)"),
    Case("a folder without a tokenizer", {"bad": Path.mkdir},
         "train mine.yaml tokenizer.type=pretrained tokenizer.path=bad", 3,
         "bad/tokenizer.json: tokenizer.path: No such file or directory"),
    setting("fewer tokens than characters", "tokenizer.type=unigram tokenizer.vocab_size=10",
            "tokenizer.vocab_size: 10 is less than the number of different characters in the texts",
            "tokenizer.vocab_size=30000, or tokenizer.type=char", code=3),
    vectors("of another size", "fine 1 2 3\n", "bad.vec:1: 3 numbers after the word, but model.embedding_dim is 8",
            "model.embedding_dim=3"),
    vectors("words for numbers", "fine a b\n", "bad.vec:1: expected a word and 8 numbers"),
    vectors("NaN", f"food{' 1' * 8}\nfine{' nan' * 8}\n", "bad.vec:2: a number is not finite"),
    vectors("of other words", f"zebra{' 1' * 8}\n",
            "bad.vec: contains no word of the vocabulary; it has 1 word (zebra), the vocabulary ***"),
    vectors("of zeros", f"fine{' 0' * 8}\n",
            "bad.vec: the vectors of all words that it shares with the vocabulary are zero"),
    vectors("empty", "", "bad.vec: model.vectors.path: an empty file", "copy or download the file again"),
    vectors("with commas", f"fine{',1' * 8}\n",
            "bad.vec:1: model.vectors.path: expected a word and its numbers in each line, with spaces or tabs between "
            "them"),
    vectors("contradicting their header", "1 8\nfine 1 2 3\n",
            "bad.vec:2: 3 numbers after the word, but line 1, the header, says 8", "model.embedding_dim=3"),
    vectors("binary", b"\xff\xfe\x80" * 50, "bad.vec: model.vectors.path: of none of the formats that are read: ***"),
    vectors("a folder", Path.mkdir, "bad.vec: model.vectors.path: a folder without vectors: expected ***"),
    vectors("a pipe", os.mkfifo, "bad.vec: model.vectors.path: a pipe, not a file"),
    vectors("a device", lambda path: path.symlink_to("/dev/zero"),
            "bad.vec: model.vectors.path: a device or socket, not a file"),
    vectors("a line without end", lambda path: sparse(path, 2**22 + 1),
            "bad.vec: model.vectors.path: of none of the formats that are read: ***"),

    Case("vectors: truncated gzip", {"bad.vec.gz": gzip.compress(f"fine{' 1' * 8}\n".encode() * 999)[:-20]},
         f"train mine.yaml {VECTORS}.gz", 3, "bad.vec.gz: model.vectors.path: cannot be read (***)",
         "copy or download the file again"),
    setting("vectors: missing", VECTORS, "bad.vec: model.vectors.path: no such file", code=3),
]  # fmt: skip


def unfinished(path: Path) -> None:
    shutil.copytree(path.parent / "earlier", path)
    (path / "metrics.json").unlink()


def with_a_damaged_config(path: Path) -> None:
    unfinished(path)
    (path / "training_config.yaml").write_text("seed: [")


def read_only(path: Path) -> None:
    path.mkdir(mode=0o555)


def closed(path: Path) -> None:
    path.mkdir(mode=0)


def folder(name: str, made: Content, error: str, hint: str, words: str = "") -> Case:
    """Training into runs/new."""
    return Case(name, {"runs/new": made}, f"train mine.yaml {words}", 2, f"output.dir: {error}", hint)


MINE_TOO = "output.dir=runs/my-run"
ELSEWHERE = "output.dir=/some/other/folder"
NO_RUN = "runs/new already contains files that are not a run; nothing was changed"
DIRECTORIES = [
    folder("a file", "x", "runs/new is a file", MINE_TOO),
    folder("a pipe", os.mkfifo, "runs/new is a file", MINE_TOO),
    folder("a dangling link", lambda path: path.symlink_to("gone"), "runs/new cannot be written: File exists",
           ELSEWHERE),
    folder("a link to itself", lambda path: path.symlink_to("new"),
           "runs/new cannot be written: Too many levels of symbolic links", ELSEWHERE),
    Case("something else", {"runs/new/thesis.txt": "mine"}, "train mine.yaml", 2, f"output.dir: {NO_RUN}", MINE_TOO),
    Case("something else, to be replaced", {"runs/new/README.md": "mine"}, "train mine.yaml --overwrite", 2,
         f"output.dir: {NO_RUN}", MINE_TOO),
    Case("something else, to go on with", {"runs/new/thesis.txt": "mine"}, "train mine.yaml --resume", 2,
         f"output.dir: {NO_RUN}", MINE_TOO),
    Case("something else, for several seeds", {"runs/new/thesis.txt": "mine"}, "train mine.yaml --seeds 2", 2,
         f"output.dir: {NO_RUN}", "output.dir=runs/my-seeds"),
    setting("a run, for several seeds", "--seeds 2 output.dir=runs/earlier",
            "output.dir: runs/earlier already contains a run; nothing was changed", "output.dir=runs/my-seeds"),
    setting("where one works", "output.dir=. --overwrite",
            "output.dir: . already contains files that are not a run; nothing was changed", MINE_TOO),
    setting("a finished run", "output.dir=runs/earlier",
            "output.dir: runs/earlier already contains a finished run; nothing was changed",
            "--overwrite, or another output.dir=…"),
    folder("an unfinished run", unfinished, "runs/new already contains an unfinished run; nothing was changed",
           "--resume continues it, --overwrite begins again"),
    setting("a run to be replaced by nothing", "output.dir=runs/earlier --overwrite data.path=gone.csv",
            "gone.csv: no such file", code=3),
    Case("a run of another config", {"runs/new": unfinished}, "train mine.yaml --resume training.epochs=2 seed=1", 2,
         "--resume: runs/new was started with different settings or data; nothing was changed:\n"
         "  seed: was 42, is now 1\n  training.epochs: was 1, is now 2",
         "undo these changes, or start a new run without --resume (with --overwrite in the same directory)"),
    Case("a run of other data", {"runs/new": unfinished, "runs/new/checkpoints/step-000000003.safetensors": "x",
         "reviews.csv": REVIEWS.replace("food", "wine")}, "train mine.yaml --resume", 2,
         "--resume: runs/new was started with different settings or data; nothing was changed:\n"
         "  data: the train split has changed\n  data: the validation split has changed",
         "undo these changes, or start a new run without --resume (with --overwrite in the same directory)"),
    Case("a run with a damaged config", {"runs/new": with_a_damaged_config}, "train mine.yaml --resume", 3,
         "runs/new/training_config.yaml: damaged (runs/new/training_config.yaml:1:8: ***)", "--overwrite begins again"),
    setting("below a file", "output.dir=reviews.csv/run",
            "output.dir: reviews.csv/run cannot be written: Not a directory",
            ELSEWHERE),
    setting("in /proc", "output.dir=/proc/run", "output.dir: /proc/run cannot be written: No such file or directory",
            ELSEWHERE),
    setting("a name too long", f"output.dir={'x' * 300}",
            f"output.dir: {'x' * 300} cannot be written: File name too long",
            ELSEWHERE),
    Case("below what is read-only", {"shut": read_only}, "train mine.yaml output.dir=shut/run", 2,
         "output.dir: shut/run cannot be written: Permission denied", ELSEWHERE, within=permissions_count),
    Case("read-only", {"shut": read_only}, "train mine.yaml output.dir=shut", 2,
         "output.dir: shut cannot be written: Permission denied", ELSEWHERE, within=permissions_count),
    Case("below what is closed", {"shut": closed}, "train mine.yaml output.dir=shut/run", 2,
         "output.dir: shut/run cannot be written: Permission denied", ELSEWHERE, within=permissions_count),
    Case("no room for the first file", {}, "train mine.yaml", 1, "a file would grow larger than is allowed here",
         "ulimit -f shows the limit", within=lambda: room_for(100), leaves="runs/new"),
    Case("no room for a checkpoint", {}, "train mine.yaml", 1,
         "runs/new: cannot be written (File too large); all files that were written before are intact",
         "free some space there, then run the same command with --resume output.dir=runs/new",
         within=lambda: room_for(24_000), leaves="runs/new"),
]  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS, ids=lambda case: case.name)
def test_configs(case: Case, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, world, tmp_path, monkeypatch)


@pytest.mark.parametrize("case", CONTRADICTIONS, ids=lambda case: case.name)
def test_settings_that_contradict(case: Case, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, world, tmp_path, monkeypatch)


@pytest.mark.parametrize("case", DIRECTORIES, ids=lambda case: case.name)
def test_directories(case: Case, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, world, tmp_path, monkeypatch)
