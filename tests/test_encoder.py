"""The recurrent encoder equals torch's packed networks and the equations, whatever stands on the padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import encode, parameters_of
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from textattn.model.classifier import Architecture, TextClassifier
from textattn.model.encoders import NAMES, EncoderSizes, RecurrentEncoder, _recurrent, encoder_class
from textattn.model.encoders._recurrent import Mirror

INPUT, HIDDEN = 5, 4
LENGTHS = [3, 1, 8, 5]
every_shape = pytest.mark.parametrize(
    ("kind", "num_layers", "bidirectional"),
    [(kind, layers, both) for kind in NAMES for layers in (1, 3) for both in (False, True)],
)


def build(kind: str, num_layers: int, bidirectional: bool, dropout: float = 0.0) -> RecurrentEncoder:
    """With weights large enough that a wrong start state would show."""
    torch.manual_seed(0)
    encoder = encoder_class(kind)(EncoderSizes(INPUT, HIDDEN, num_layers, bidirectional), dropout)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.uniform_(-1, 1)
    return encoder.eval()


@pytest.fixture(autouse=True, params=["one direction", "both directions"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the kernels of the device take at once; a processor's take either."""
    monkeypatch.setattr(_recurrent, "takes_both_directions", lambda device: request.param == "both directions")
    return str(request.param)


def ragged(extra: int = 3, garbage: float = 10.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    seq = max(LENGTHS) + extra
    real = torch.randn(len(LENGTHS), max(LENGTHS) + 50, INPUT, generator=generator)[:, :seq]
    mask = torch.arange(seq)[None, :] < torch.tensor(LENGTHS)[:, None]
    noise = garbage * torch.randn(real.shape, generator=generator)
    return torch.where(mask[:, :, None], real, noise), mask


def torch_twin(encoder: RecurrentEncoder, kind: str, num_layers: int, bidirectional: bool) -> nn.RNNBase:
    """Torch's own network with the same weights."""
    twin = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](
        INPUT, HIDDEN, num_layers, batch_first=True, bidirectional=bidirectional
    )
    state = {}
    for name, value in encoder.state_dict().items():  # layers.2.weight_ih_l0_reverse -> weight_ih_l2_reverse
        _, layer, parameter = name.split(".")
        state[parameter.replace("_l0", f"_l{layer}")] = value
    twin.load_state_dict(state)
    return twin


@every_shape
def test_equals_packed_torch(kind: str, num_layers: int, bidirectional: bool) -> None:
    encoder = build(kind, num_layers, bidirectional)
    embeddings, mask = ragged()
    packed = pack_padded_sequence(embeddings, mask.sum(1), batch_first=True, enforce_sorted=False)
    outputs, _ = torch_twin(encoder, kind, num_layers, bidirectional)(packed)
    expected, _ = pad_packed_sequence(outputs, batch_first=True, total_length=mask.shape[1])
    states = encoder(embeddings, mask)
    assert states.shape == (*mask.shape, encoder.output_size)
    torch.testing.assert_close(states[mask], expected[mask], atol=1e-6, rtol=0)


@every_shape
def test_equals_the_equations_for_each_text_alone(kind: str, num_layers: int, bidirectional: bool) -> None:
    encoder = build(kind, num_layers, bidirectional).double()
    embeddings, mask = ragged()
    states = encoder(embeddings.double(), mask).detach().numpy()
    for row, length in enumerate(LENGTHS):
        alone = embeddings[row, :length].double().numpy()
        expected = encode(kind, parameters_of(encoder), alone, num_layers, bidirectional)
        np.testing.assert_allclose(states[row, :length], expected, atol=1e-12)


@every_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_content_and_amount_of_padding_change_nothing(
    kind: str, num_layers: int, bidirectional: bool, dtype: torch.dtype
) -> None:
    encoder = build(kind, num_layers, bidirectional).to(dtype)
    embeddings, mask = ragged(extra=0, garbage=0)
    states = encoder(embeddings.to(dtype), mask)[mask]
    longer, longer_mask = ragged(extra=40, garbage=100)
    torch.testing.assert_close(
        encoder(longer.to(dtype), longer_mask)[longer_mask],
        states,
        atol=1e-6 if dtype == torch.float32 else 1e-2,  # kernels round differently for different shapes
        rtol=0,
    )


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_backward_direction_reaches_the_text_with_the_zero_state(kernels: str, kind: str, dtype: torch.dtype) -> None:
    if kernels == "one direction":
        pytest.skip("it begins at the text")
    encoder = build(kind, 2, bidirectional=True).to(dtype)
    embeddings, mask = ragged(garbage=100)
    on_padding = encoder(embeddings.to(dtype), mask)[~mask]
    assert torch.count_nonzero(on_padding[:, HIDDEN:]) == 0  # exactly, or it would add up over a long padding


@every_shape
def test_gradients_are_those_of_finite_differences(kind: str, num_layers: int, bidirectional: bool) -> None:
    encoder = build(kind, num_layers, bidirectional).double()
    embeddings, mask = ragged(extra=1)
    parameters = dict(encoder.named_parameters())

    def run(embeddings: Tensor, *values: Tensor) -> Tensor:
        states = torch.func.functional_call(encoder, dict(zip(parameters, values, strict=True)), (embeddings, mask))
        assert isinstance(states, Tensor)
        return states[mask]

    # fast_mode compares random projections of the Jacobian, which has a thousand columns.
    inputs = (embeddings.double().requires_grad_(), *parameters.values())
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@every_shape
def test_gradients_do_not_see_padding(kind: str, num_layers: int, bidirectional: bool) -> None:
    """Neither do padded embeddings get any, nor do those of the parameters change."""
    encoder = build(kind, num_layers, bidirectional).double()

    def gradients(extra: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        embeddings, mask = ragged(extra)
        embeddings = embeddings.double().requires_grad_()
        loss = encoder(embeddings, mask)[mask].square().sum()
        to_embeddings, *to_parameters = torch.autograd.grad(loss, [embeddings, *encoder.parameters()])
        return to_embeddings[~mask], to_embeddings[mask], to_parameters

    on_padding, on_tokens, to_parameters = gradients(extra=6)
    assert torch.count_nonzero(on_padding) == 0
    _, expected_on_tokens, expected = gradients(extra=0)
    torch.testing.assert_close(on_tokens, expected_on_tokens)
    torch.testing.assert_close(to_parameters, expected)
    assert all(gradient.abs().max() > 1e-9 for gradient in to_parameters)


@pytest.mark.parametrize("kind", NAMES)
def test_dropout_is_between_layers_and_only_in_training(kind: str) -> None:
    embeddings, mask = ragged()
    one, two = build(kind, 1, True, dropout=0.5), build(kind, 2, True, dropout=0.5)
    assert torch.equal(two(embeddings, mask), build(kind, 2, True)(embeddings, mask))
    assert torch.equal(one.train()(embeddings, mask), one.eval()(embeddings, mask))
    assert not torch.allclose(two.train()(embeddings, mask)[mask], two.eval()(embeddings, mask)[mask])


@every_shape
def test_state_dict_has_the_weights_of_torch_and_nothing_else(kind: str, num_layers: int, bidirectional: bool) -> None:
    encoder = build(kind, num_layers, bidirectional)
    twin = torch_twin(encoder, kind, num_layers, bidirectional)  # strict about names and shapes
    assert set(encoder.state_dict()) == {name for name, _ in encoder.named_parameters()}
    assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in twin.parameters())


def test_lstm_starts_with_open_forget_gates_and_orthogonal_recurrences() -> None:
    encoder = encoder_class("lstm")(EncoderSizes(INPUT, HIDDEN, 2, True), 0.0)
    for layer in encoder.layers:
        for suffix in ("l0", "l0_reverse"):
            bias = getattr(layer, f"bias_ih_{suffix}") + getattr(layer, f"bias_hh_{suffix}")
            assert bias.tolist() == [0.0] * HIDDEN + [1.0] * HIDDEN + [0.0] * 2 * HIDDEN
            for gate in getattr(layer, f"weight_hh_{suffix}").split(HIDDEN):
                torch.testing.assert_close(gate @ gate.T, torch.eye(HIDDEN), atol=1e-5, rtol=0)


def test_gru_starts_without_biases() -> None:
    encoder = encoder_class("gru")(EncoderSizes(INPUT, HIDDEN, 1, True), 0.0)
    assert not any(p.any() for name, p in encoder.named_parameters() if "bias" in name)


def test_a_mirror_turns_texts_around_and_leaves_padding_behind() -> None:
    _, mask = ragged(extra=2)
    places = torch.arange(mask.numel(), dtype=torch.float64).view(*mask.shape, 1).requires_grad_()
    mirror = Mirror(mask)
    turned = mirror.reverse(places)
    for row, length in enumerate(LENGTHS):
        assert torch.equal(turned[:length, row], places[row, :length].flip(0))
        assert torch.equal(turned[length:, row], places[row, length:])
    assert torch.equal(mirror.back(turned), places)
    assert torch.autograd.gradcheck(lambda x: mirror.back(mirror.reverse(x).cumsum(0)), (places,))


@every_shape
def test_telling_shapes_show_every_size(kind: str, num_layers: int, bidirectional: bool) -> None:
    """With a wrong size in config.json they must differ from the weights before anything is built."""
    encoder = encoder_class(kind)
    telling = encoder.telling_shapes(EncoderSizes(INPUT, HIDDEN, num_layers, bidirectional))
    parameters = build(kind, num_layers, bidirectional).named_parameters()
    assert telling.items() <= {name: tuple(parameter.shape) for name, parameter in parameters}.items()
    for wrong in (EncoderSizes(INPUT + 1, HIDDEN, 1, True), EncoderSizes(INPUT, HIDDEN + 1, 1, True)):
        assert encoder.telling_shapes(wrong) != telling


def test_a_model_with_an_unknown_encoder_is_not_built() -> None:
    with pytest.raises(ValueError, match=r"^unknown encoder 'LSTM'$"):
        TextClassifier(Architecture(10, 2, encoder="LSTM"))
