"""Checks a graph before ONNX Runtime sees it: only what `textattn.export.graph` writes, or ever wrote, is accepted.

ONNX can say much more than a text classifier needs: loops without end, functions within functions, weights in other
files of the machine. The file is therefore read here first, as the protocol buffer that it is, and everything in it
that textattn does not write is refused by name. The numbers of the weights are skipped, so this takes a millisecond,
which importing `onnx` would take a hundred times.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from mmap import mmap

Content = bytes | mmap
Range = tuple[int, int]
"""The place of a message within the file: start and end."""

# The operators with their attributes: all that the parts of `textattn.model` use, also those of earlier versions.
OPERATORS: dict[tuple[bytes, bytes], frozenset[bytes]] = {
    (domain, name): frozenset(attributes)
    for domain, operators in {
        b"": {
            b"AveragePool": (b"kernel_shape", b"pads", b"count_include_pad"),
            b"ArgMax": (b"axis", b"keepdims"),
            b"Cast": (b"to",),
            b"Concat": (b"axis",),
            b"Flatten": (b"axis",),
            b"GRU": (b"hidden_size", b"direction", b"linear_before_reset"),
            b"Gather": (b"axis",),
            b"LSTM": (b"hidden_size", b"direction"),
            b"OneHot": (b"axis",),
            b"ReduceMax": (b"axes", b"keepdims"),
            b"ReduceMean": (b"axes", b"keepdims"),
            b"ReduceSum": (b"keepdims",),
            b"Softmax": (b"axis",),
            b"Transpose": (b"perm",),
            **dict.fromkeys(
                (
                    b"Add", b"And", b"Clip", b"CumSum", b"Div", b"Equal", b"Exp", b"Floor", b"Identity", b"MatMul",
                    b"Max", b"Mod", b"Mul", b"Not", b"Pad", b"Relu", b"Reshape", b"Shape", b"Sigmoid", b"Slice",
                    b"Sqrt", b"Squeeze", b"Sub", b"Tanh", b"Unsqueeze", b"Where",
                    # For mechanisms that people add. Each computes a number from a number, or from two.
                    b"Abs", b"Ceil", b"Cos", b"Erf", b"Greater", b"Less", b"Log", b"Min", b"Neg", b"Or", b"Pow",
                    b"Reciprocal", b"Round", b"Sign", b"Sin", b"Softplus", b"Softsign",
                ),
                (),
            ),
        },
        b"com.microsoft": {
            b"DynamicQuantizeLSTM": (b"hidden_size", b"direction"),
            b"DynamicQuantizeMatMul": (),
        },
    }.items()
    for name, attributes in operators.items()
}  # fmt: skip
# Operators that can make a small value large. Repeated, each would double it.
GROWING = {b"Concat": 4, b"OneHot": 4, b"Pad": 12}
MOST_NODES, MOST_NODES_OF_A_LAYER, MOST_LAYERS = 250, 4, 100
"""The largest graph so far has half as many nodes without those of the encoder's layers, which have three each."""
MOST_OUTPUTS = 5
OPSETS = {(b"", 17), (b"com.microsoft", 1)}
IR_VERSION = 9
# Bytes of an element by ONNX's number of its type: fp32, int8, int32, int64, bool.
SIZES = {1: 4, 3: 1, 6: 4, 7: 8, 9: 1}
FLOAT, INT64 = 1, 7
# Types of attributes: float, int, string, and lists of ints. The others are tensors, graphs and such.
ATTRIBUTE_TYPES = {1, 2, 3, 7}
# Files in ONNX Runtime's own format have this at byte 4. It would be read instead of the protocol buffer.
ORT_FORMAT = b"ORTM"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Refused(ValueError):
    """What in the graph textattn does not write."""


def check_graph(content: Content, num_layers: int) -> None:
    """Check the content of an ONNX file.

    Args:
        content: the whole file.
        num_layers: the number of layers of the encoder, which bounds the number of nodes.

    Raises:
        Refused: it is damaged, or contains what textattn does not write.
    """
    if content[4:8] == ORT_FORMAT:
        raise Refused("ONNX Runtime's own format")
    graphs, opsets = [], set()
    # ModelProto
    for field, value in _fields(content, (0, len(content))):
        if field == 1:
            if value != IR_VERSION:
                raise Refused(f"version {value} of the format")
        elif field == 7:
            graphs.append(_range(value))
        elif field == 8:
            opsets.add(_opset(content, _range(value)))
        elif field not in (2, 3, 4, 5, 6, 14):
            raise Refused({20: "training information", 25: "functions"}.get(field, f"field {field} of a model"))
    if len(graphs) != 1:
        raise Refused(f"{len(graphs)} graphs")
    if not opsets <= OPSETS:
        raise Refused("another version of the operators")
    _check_graph(content, graphs[0], MOST_NODES + MOST_NODES_OF_A_LAYER * min(num_layers, MOST_LAYERS))


def _check_graph(content: Content, place: Range, most_nodes: int) -> None:
    nodes = outputs = 0
    counts = dict.fromkeys(GROWING, 0)
    # GraphProto
    for field, value in _fields(content, place):
        if field == 1:
            nodes += 1
            kind = _check_node(content, _range(value))
            if kind in counts:
                counts[kind] += 1
        elif field == 5:
            _check_tensor(content, _range(value))
        elif field in (11, 12):
            outputs += field == 12
            _check_type(content, _range(value), INT64 if field == 11 else FLOAT)
        elif field not in (2, 10):
            raise Refused({15: "sparse weights"}.get(field, f"field {field} of a graph"))
        if nodes > most_nodes or outputs > MOST_OUTPUTS:
            raise Refused(f"more than {most_nodes} nodes or {MOST_OUTPUTS} outputs")
    for kind, count in counts.items():
        if count > GROWING[kind]:
            raise Refused(f"the operator {kind.decode()} {count} times")


def _check_node(content: Content, place: Range) -> bytes:
    """Check a NodeProto and return its operator."""
    kind = domain = b""
    attributes = set()
    outputs = 0
    for field, value in _fields(content, place):
        if field == 4:
            kind = _bytes(content, value)
        elif field == 7:
            domain = _bytes(content, value)
        elif field == 5:
            attributes.add(_attribute(content, _range(value)))
        elif field == 2:
            outputs += 1
        elif field not in (1, 3):
            raise Refused(f"field {field} of a node")
    allowed = OPERATORS.get((domain, kind))
    if allowed is None:
        raise Refused(f"the operator {b'.'.join(filter(None, (domain, kind))).decode('ascii', 'backslashreplace')}")
    if not attributes <= allowed or outputs != 1:
        raise Refused(f"another form of the operator {kind.decode()}")
    return kind


def _attribute(content: Content, place: Range) -> bytes:
    """Check an AttributeProto, which must hold a number, a string or a list of integers, and return its name."""
    name = b""
    for field, value in _fields(content, place):
        if field == 1:
            name = _bytes(content, value)
        elif field == 20:
            if value not in ATTRIBUTE_TYPES:
                raise Refused(f"an attribute of type {value}")
        elif field not in (2, 3, 4, 8):
            raise Refused({6: "a graph inside the graph"}.get(field, f"field {field} of an attribute"))
    return name


def _check_tensor(content: Content, place: Range) -> None:
    """Check a TensorProto: it must contain all of its numbers."""
    shape: list[int] = []
    kind = size = 0
    for field, value in _fields(content, place):
        if field == 1:
            # One integer, or several of them packed.
            shape += [value] if isinstance(value, int) else _packed(content, value)
        elif field == 2:
            kind = value if isinstance(value, int) else 0
        elif field == 9:
            start, end = _range(value)
            size = end - start
        elif field in (13, 14):
            raise Refused("its weights lie in other files")
        elif field != 8:
            raise Refused(f"field {field} of a tensor")
    if kind not in SIZES:
        raise Refused(f"weights of type {kind}")
    if any(length >> 40 for length in shape) or prod(shape) * SIZES[kind] != size:
        raise Refused(f"{size} bytes of weights for the shape {shape[:8]}")


def _check_type(content: Content, place: Range, element: int) -> None:
    """Check a ValueInfoProto: an input or output must be a tensor of the type `element`."""
    found = None
    for field, value in _fields(content, place):
        if field == 2:
            for kind, inner in _fields(content, _range(value)):
                if kind != 1:
                    raise Refused("an input or output that is not a tensor")
                found = next((number for name, number in _fields(content, _range(inner)) if name == 1), None)
        elif field not in (1, 3):
            raise Refused(f"field {field} of an input or output")
    if found != element:
        raise Refused("an input or output of another type")


def _opset(content: Content, place: Range) -> tuple[bytes, object]:
    domain, version = b"", None
    for field, value in _fields(content, place):
        if field == 1:
            domain = _bytes(content, value)
        elif field == 2:
            version = value
    return domain, version


def _fields(content: Content, place: Range) -> Iterator[tuple[int, int | Range | None]]:
    """The fields of a message: their numbers, with an integer, the place of bytes, or None for a float."""
    position, end = place
    while position < end:
        key = content[position]
        position += 1
        if key > 127:
            key, position = _varint(content, position - 1, end)
        wire = key & 7
        if wire == BYTES:
            if position >= end:
                raise Refused("the file is cut short")
            length = content[position]
            position += 1
            if length > 127:
                length, position = _varint(content, position - 1, end)
            start, position = position, position + length
            if position > end:
                raise Refused("the file is cut short")
            yield key >> 3, (start, position)
        elif wire == VARINT:
            number, position = _varint(content, position, end)
            yield key >> 3, number
        elif wire in (FIXED32, FIXED64):
            position += 4 if wire == FIXED32 else 8
            if position > end:
                raise Refused("the file is cut short")
            yield key >> 3, None
        else:
            raise Refused("no protocol buffer")


def _varint(content: Content, position: int, end: int) -> tuple[int, int]:
    """An integer of seven bits a byte, and the position after it."""
    number = shift = 0
    while position < end and shift < 70:
        byte = content[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
    raise Refused("the file is cut short")


def _range(value: int | Range | None) -> Range:
    if not isinstance(value, tuple):
        raise Refused("no model in the format ONNX")
    return value


def _bytes(content: Content, value: int | Range | None) -> bytes:
    start, end = _range(value)
    return content[start:end]


def _packed(content: Content, value: int | Range | None) -> list[int]:
    position, end = _range(value)
    numbers = []
    while position < end:
        number, position = _varint(content, position, end)
        numbers.append(number)
    return numbers
