"""Models from strangers: graphs and tokenizers that do more than a text classifier needs, and files without an end."""

from __future__ import annotations

import json
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import damaged_models
import numpy as np
import onnx
import pytest
from damaged_models import FILES, complaint
from inprocess import run as cli
from onnx import ModelProto, TensorProto, helper, numpy_helper
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import textattn
from textattn.errors import InputError
from textattn.inference.graph_check import Refused, check_graph
from textattn.tokens.tokenizer import TextTokenizer

# pytest looks for fixtures among the names of a file.
run, model = damaged_models.run, damaged_models.model

# Files without an end


def pipe(file: Path) -> None:
    os.mkfifo(file)


def endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


def sparse(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(200 << 30)


@pytest.mark.parametrize("kind", [pipe, endless, sparse])
@pytest.mark.parametrize("name", [*FILES, "checksums.json"])
def test_a_file_without_an_end_is_refused_at_once(model: Path, name: str, kind: Callable[[Path], None]) -> None:
    if name == "checksums.json" and kind is not sparse:
        pytest.skip("what is not an ordinary file is no checksums.json")
    (model / name).unlink(missing_ok=True)
    kind(model / name)
    runtime = {"model.int8.onnx": "int8", "model.safetensors": "torch"}.get(name, "onnx")
    started = time.monotonic()
    done = cli("predict", "--model", model, "--runtime", runtime, "good")
    assert (done.code, done.out) == (3, "")
    assert name in done.err
    assert "bug" not in done.err
    assert time.monotonic() - started < 20


def test_weights_are_not_read_where_their_header_says_another_size(model: Path) -> None:
    with (model / "model.safetensors").open("rb+") as file:
        file.truncate(3 << 30)
    said = complaint(model, "torch")
    assert said is not None
    assert "3,221,225,472 bytes, but its header says" in said


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_huge_json_file_is_not_parsed(model: Path, name: str) -> None:
    (model / name).write_bytes(b"[" + b"[]," * (6 << 20) + b"[]]")
    assert complaint(model) == (
        f"{model / name}: 18,874,372 bytes, but such a file has at most 16,777,216; it was not read"
    )


# Graphs


def node(kind: str, *inputs: str, output: str = "extra", **settings: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [output], **settings)


def a_loop(proto: ModelProto) -> None:
    body = helper.make_graph(
        [node("Identity", "go", output="go_on")],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go", 9, [])],
        [helper.make_tensor_value_info("go_on", 9, [])],
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array(2**62), "trips"))
    proto.graph.node.append(helper.make_node("Loop", ["trips", ""], [], body=body))


def functions(proto: ModelProto) -> None:
    made = helper.make_function("own", "F", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [])
    proto.functions.append(made)


def a_function(proto: ModelProto) -> None:
    functions(proto)
    proto.graph.node.append(node("F", "logits", domain="own"))


def a_sequence(proto: ModelProto) -> None:
    proto.graph.node.append(node("SequenceConstruct", "logits"))
    proto.graph.output.append(helper.make_tensor_sequence_value_info("extra", TensorProto.FLOAT, None))


def a_sequence_output(proto: ModelProto) -> None:
    proto.graph.output[1].CopyFrom(helper.make_tensor_sequence_value_info("attention_weights", TensorProto.FLOAT, None))


def a_graph_attribute(proto: ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("body", proto.graph))


def many_nodes(proto: ModelProto) -> None:
    for number in range(300_000):
        proto.graph.node.append(node("Identity", "logits", output=f"x{number}"))


def doubling(proto: ModelProto) -> None:
    for number in range(34):
        last = f"x{number - 1}" if number else "logits"
        proto.graph.node.append(node("Concat", last, last, output=f"x{number}", axis=0))


def constant_of_shape(proto: ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2**31, 2**10]), "size"))
    proto.graph.node.append(node("ConstantOfShape", "size"))


def a_tensor_attribute(proto: ModelProto) -> None:
    proto.graph.node.append(node("Constant", value=numpy_helper.from_array(np.zeros(3, np.float32))))


def sparse_weights(proto: ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))


def external(proto: ModelProto) -> None:
    tensor = proto.graph.initializer[-1]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def another_shape(proto: ModelProto) -> None:
    next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 2).dims[0] = 2**40


def strings(proto: ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.array(["x"], object), "strings"))


def another_opset(proto: ModelProto) -> None:
    proto.opset_import[0].version = 21


def another_domain(proto: ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))


def two_outputs(proto: ModelProto) -> None:
    proto.graph.node[0].output.append("second")


def training(proto: ModelProto) -> None:
    proto.training_info.add()


def another_attribute(proto: ModelProto) -> None:
    lstm = next(each for each in proto.graph.node if each.op_type == "LSTM")
    lstm.attribute.append(helper.make_attribute("clip", 1.0))


MUTATIONS = [
    a_loop, functions, a_function, a_sequence, a_sequence_output, a_graph_attribute, many_nodes, doubling,
    constant_of_shape, a_tensor_attribute, sparse_weights, external, another_shape, strings, another_opset,
    another_domain, two_outputs, training, another_attribute,
]  # fmt: skip


@pytest.mark.parametrize("change", MUTATIONS)
def test_a_graph_with_what_textattn_does_not_write_is_refused_by_name(
    model: Path, change: Callable[[ModelProto], None], tmp_path: Path
) -> None:
    proto = onnx.load(model / "model.onnx")
    change(proto)
    (model / "model.onnx").write_bytes(proto.SerializeToString())
    started = time.monotonic()
    said = str(complaint(model, "onnx"))
    assert said.startswith(f"{model / 'model.onnx'}: damaged, or not written by textattn (")
    assert time.monotonic() - started < 20
    bundle = damaged_models.pack(model, tmp_path / "model.zip")
    assert "not written by textattn (" in str(complaint(bundle)) or "not plausible" in str(complaint(bundle))


def test_the_format_of_onnx_runtime_is_refused_under_any_name(model: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(model / "own.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(model / "model.onnx"), options, providers=["CPUExecutionProvider"])
    (model / "own.ort").replace(model / "model.onnx")
    assert (model / "model.onnx").read_bytes()[4:8] == b"ORTM"
    assert "ONNX Runtime's own format" in str(complaint(model, "onnx"))


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
def test_any_single_changed_byte_outside_of_the_numbers_ends_without_a_crash(model: Path, name: str) -> None:
    """The check itself, which reads lengths from the file: it ends with an answer for any of them."""
    content = (model / name).read_bytes()
    check_graph(content, 1)
    refused = 0
    for place in range(0, len(content), 3):
        for value in (0, 0x7F, 0x80, 0xFF):
            try:
                check_graph(content[:place] + bytes([value]) + content[place + 1 :], 1)
            except Refused:
                refused += 1
    assert refused > 500


@pytest.mark.parametrize("output", ["attention_weights", "contributions", "context"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_every_output_must_be_finite(model: Path, output: str, value: float) -> None:
    proto = onnx.load(model / "model.onnx")
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(value), "poison"))
    last = next(each for each in proto.graph.node if output in each.output)
    last.output[0] = "healthy"
    proto.graph.node.append(node("Add", "healthy", "poison", output=output))
    if output == "context":
        for each in proto.graph.node[:-1]:
            for number, name in enumerate(each.input):
                if name == "context":
                    each.input[number] = "healthy"
    (model / "model.onnx").write_bytes(proto.SerializeToString())
    said = str(complaint(model, "onnx"))
    assert said.startswith(f"{model / 'model.onnx'}: damaged (its {output.replace('_', ' ')} are not finite numbers)")
    done = cli("explain", "--model", model, "--json", "good food")
    assert (done.code, done.out) == (3, "")


def test_gradients_that_are_no_numbers(model: Path) -> None:
    """The graph answers, and only the weights that gradients are computed with are damaged."""
    content = (model / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    tensors = load_tensors(content)
    tensors["classifier.weight"][0, 0] = np.nan
    (model / "model.safetensors").write_bytes(save_tensors(tensors, header["__metadata__"]))
    done = cli("explain", "--model", model, "--method", "gradient_x_input", "good food")
    assert (done.code, done.out) == (3, ""), done.err
    assert f"{model / 'model.safetensors'}: damaged (its scores by gradient_x_input are not finite numbers)" in done.err


# Tokenizers


def word_level(**changes: Any) -> dict[str, Any]:
    made = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "good": 2, "food": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    value: dict[str, Any] = json.loads(made.to_str())
    return value | changes


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


def replaced(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def with_model(**changes: Any) -> dict[str, Any]:
    value = word_level()
    return value | {"model": value["model"] | changes}


BPE = {"type": "BPE", "vocab": {"[PAD]": 0, "g": 1}, "merges": [], "unk_token": None}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
REFUSED = {
    "doubling letters": word_level(normalizer=sequence(*[replaced({"String": "o"}, "oo")] * 34)),
    "nested doubling": word_level(
        normalizer=sequence(*[sequence(*[replaced({"String": "o"}, "oo")] * 3)] * 2)
    ),
    "a letter that becomes a book": word_level(normalizer=replaced({"String": "o"}, "o" * 1001)),
    "an expression that matches everywhere": word_level(normalizer=sequence(*[replaced({"Regex": ""}, "ab")] * 4)),
    "nothing replaced": word_level(normalizer=replaced({"String": ""}, "ab")),
    "bytes of bytes": word_level(pre_tokenizer={"type": "Sequence", "pretokenizers": [BYTES] * 2}),
    "bytes in both parts": word_level(normalizer={"type": "ByteLevel"}, pre_tokenizer=BYTES),
    "many steps": word_level(normalizer=sequence(*[{"type": "NFC"}] * 33)),
    "a panic": word_level(pre_tokenizer={"type": "FixedLength", "length": 0}),
    "a damaged table": word_level(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "a long expression": word_level(pre_tokenizer={
        "type": "Split", "pattern": {"Regex": "(a|b)*" * 200}, "behavior": "Isolated", "invert": False,
    }),
    "many repeats": word_level(pre_tokenizer={
        "type": "Split", "pattern": {"Regex": "a{1,100000}"}, "behavior": "Isolated", "invert": False,
    }),
    "dropout": word_level(model=BPE | {"dropout": 0.5}),
    "an id beyond int32": with_model(vocab={"[PAD]": 0, "[UNK]": 1, "good": 4294967295}),
    "a negative id": with_model(vocab={"[PAD]": 0, "[UNK]": 1, "good": -1}),
    "an id of another type": with_model(vocab={"[PAD]": 0, "[UNK]": 1, "good": 1.5}),
    "an unknown model": with_model(type="Neural"),
    "a word without an end": with_model(type="WordPiece", max_input_chars_per_word=10**9),
    "a long prefix": with_model(type="WordPiece", continuing_subword_prefix="#" * 1000),
    "an unknown part": word_level(post_processor={"type": "Shell"}),
    "an added id": word_level(added_tokens=[{"id": 2**32, "content": "x"}]),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_tokenizer_that_no_text_needs_is_refused(what: str, capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match=r"^run/tokenizer\.json: not a tokenizer of texts \("):
        TextTokenizer.from_files(json.dumps(REFUSED[what]).encode(), b"{}", "run")
    assert time.monotonic() - started < 10
    assert capfd.readouterr().err == ""


def test_a_key_that_occurs_twice_is_refused() -> None:
    content = json.dumps(word_level()).replace('"normalizer": null', '"normalizer": null, "normalizer": null')
    with pytest.raises(InputError, match="a key occurs twice in an object"):
        TextTokenizer.from_files(content.encode(), b"{}", "run")


def test_a_graph_that_would_fill_the_memory_is_refused(model: Path, tmp_path: Path) -> None:
    """Nothing of what textattn writes is that large and shrinks that much."""
    bundle = damaged_models.pack(model, tmp_path / "model.zip")
    with zipfile.ZipFile(bundle) as old:
        contents = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in contents.items():
            new.writestr(name, bytes(2**26 + 1) if name == "model.onnx" else content)
    assert "model.onnx: damaged (a size of 67,108,865 bytes is not plausible)" in str(complaint(bundle))


def test_a_bomb_in_a_model_is_refused(model: Path) -> None:
    value = json.loads((model / "tokenizer.json").read_text())
    value["normalizer"] = sequence(*[replaced({"String": "o"}, "oo")] * 30)
    content = json.dumps(value).encode()
    (model / "tokenizer.json").write_bytes(content)
    proto = onnx.load(model / "model.onnx")
    entry = next(entry for entry in proto.metadata_props if entry.key == "textattn")
    entry.value = json.dumps(json.loads(entry.value) | {"tokenizer_crc32": zlib.crc32(content)})
    onnx.save(proto, model / "model.onnx")
    done = cli("predict", "--model", model, "good food")
    assert (done.code, done.out) == (3, "")
    assert "normalizer: it may make a text 1,073,741,824 times as long" in done.err


def common() -> dict[str, Tokenizer]:
    """Tokenizers as common pretrained models have them."""
    words = {"[PAD]": 0, "[UNK]": 1, "good": 2, "food": 3}
    bert = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    bert.normalizer, bert.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    bert.post_processor = processors.TemplateProcessing(single="[UNK] $A", special_tokens=[("[UNK]", 1)])
    bert.decoder = decoders.WordPiece()
    letters = {"[PAD]": 0, **{letter: i + 1 for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}}
    gpt = Tokenizer(models.BPE(letters, []))
    gpt.pre_tokenizer, gpt.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    gpt.post_processor = processors.ByteLevel(trim_offsets=False)
    llama = Tokenizer(models.BPE(letters, []))
    pattern = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"
    llama.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(use_regex=False)]
    )
    albert = Tokenizer(models.Unigram([("[PAD]", 0.0), ("[UNK]", 0.0), ("\u2581good", -1.0)], 1))
    steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
             normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Replace(Regex(" {2,}"), " ")]  # fmt: skip
    albert.normalizer = normalizers.Sequence(steps)
    albert.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    albert.decoder = decoders.Metaspace()
    gemma = Tokenizer(models.BPE(letters, [], byte_fallback=True))
    gemma.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    gemma.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return {"bert": bert, "gpt": gpt, "llama": llama, "albert": albert, "gemma": gemma}


@pytest.mark.parametrize("name", ["bert", "gpt", "llama", "albert", "gemma"])
def test_common_pretrained_tokenizers_are_read(name: str) -> None:
    settings = {"model_max_length": 50, "truncation": "head", "num_segments": 1, "kind": "pretrained"}
    made = common()[name]
    read = TextTokenizer.from_files(made.to_str().encode(), json.dumps(settings).encode(), "run")
    assert len(read.encode(["good food"]).ids) >= 1


# Values


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    ("name", "key"), [("config.json", "temperature"), ("tokenizer_config.json", "model_max_length")]
)
def test_a_number_that_is_not_finite_is_refused_with_its_key(model: Path, name: str, key: str, value: str) -> None:
    content = json.loads((model / name).read_text())
    content[key] = "HERE"
    (model / name).write_text(json.dumps(content).replace('"HERE"', value))
    said = str(complaint(model))
    assert said.startswith(f"{model / name}: damaged (")
    assert f"{key} is not a finite number" in said


@pytest.mark.parametrize("value", ["NaN", "1e999"])
def test_info_refuses_metrics_that_are_not_finite(trained_run: Path, tmp_path: Path, value: str) -> None:
    for path in trained_run.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    metrics["test"]["accuracy"] = "HERE"
    (tmp_path / "metrics.json").write_text(json.dumps(metrics).replace('"HERE"', value))
    for arguments in ([], ["--json"]):
        done = cli("info", "--model", tmp_path, *arguments)
        assert (done.code, done.out) == (3, "")
        assert f"{tmp_path / 'metrics.json'}: damaged (test.accuracy is not a finite number)" in done.err


@pytest.mark.parametrize("key", ["embedding_dim", "encoder", "num_layers", "attention", "bidirectional", "ngrams"])
@pytest.mark.parametrize("value", [None, "x", [], {}, -1, 1.5, True, ...])
def test_info_says_that_an_odd_architecture_is_damaged(model: Path, key: str, value: Any) -> None:
    config = json.loads((model / "config.json").read_text())
    if value is ... and key != "ngrams":
        del config["architecture"][key]
    else:
        config["architecture"][key] = None if value is ... else value
    (model / "config.json").write_text(json.dumps(config))
    for arguments in ([], ["--json"]):
        done = cli("info", "--model", model, *arguments)
        valid = (key in ("encoder", "attention") and value == "x") or (key == "bidirectional" and value is True)
        assert done.code == (0 if valid else 3)
        assert valid or f"{model / 'config.json'}: damaged (" in done.err


def test_the_model_of_these_tests_answers(model: Path) -> None:
    assert textattn.load(model).predict("good food")
