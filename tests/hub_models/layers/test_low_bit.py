"""Low-bit layers in training and packed: the same numbers, gradients, adapters, and what they refuse."""

import threading

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pocket_diffusers.hub_models.layers import low_bit, low_bit_packing
from pocket_diffusers.hub_models.layers.low_bit import LOW_BIT, LowBitConv2d, LowBitLayer, LowBitLinear

LAYERS = {
    "linear": (lambda: nn.Linear(37, 11), (2, 3, 37)),
    "linear without bias": (lambda: nn.Linear(8, 5, bias=False), (4, 8)),
    "convolution": (lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1), (2, 6, 9, 7)),
    "separable": (lambda: nn.Conv2d(6, 12, 3, padding="same", dilation=2, groups=6, bias=False), (1, 6, 8, 8)),
    "circular": (lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), (1, 4, 5, 6)),
}
EVERY_LAYER = pytest.mark.parametrize("name", LAYERS)


def case(name: str, bits: int) -> tuple[nn.Module, LowBitLayer, torch.Tensor]:
    torch.manual_seed(bits)
    make, shape = LAYERS[name]
    plain = make()
    return plain, LOW_BIT[type(plain)].of(plain, bits), torch.randn(shape)


@EVERY_LAYER
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("compiled", [True, False])
def test_packed_and_plain_forms_compute_what_the_layer_in_training_does(monkeypatch, name, bits, compiled):
    if not compiled:
        monkeypatch.setattr(low_bit_packing, "_library", lambda: None)
    plain, layer, x = case(name, bits)
    expected = layer(x)
    packed = layer.freeze()
    assert packed.is_frozen and set(packed.state_dict()) == {"words", "scales"} | (
        {"bias"} if plain.bias is not None else set()
    )
    assert packed.words.dtype == torch.int64 and packed.scales.dtype == torch.float16
    assert not dict(packed.named_parameters()).keys() - {"bias"}
    for form in (packed, packed.dequantized()):
        assert torch.equal(form(x), expected)
    assert type(packed.dequantized()) is type(plain)
    error = float((plain(x) - expected).detach().norm() / plain(x).detach().norm())
    assert error < {1: 0.8, 2: 0.45, 3: 0.25, 4: 0.12, 5: 0.06, 6: 0.03, 7: 0.016, 8: 0.008}[bits]


@EVERY_LAYER
def test_gradients_by_the_input_are_the_same_packed(name):
    _, layer, x = case(name, 2)
    gradients = []
    for prepare in (lambda: None, layer.freeze):
        prepare()
        own = x.clone().requires_grad_()
        first = layer(own)
        layer(torch.randn_like(x))  # another call in between must not change what the backward pass decodes
        first.square().sum().backward()
        gradients.append(own.grad)
    assert torch.equal(*gradients)


def test_a_backward_pass_keeps_no_decoded_weight():
    layer = LowBitLinear.of(nn.Linear(64, 64), 1).freeze()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        x = torch.randn(2, 64, requires_grad=True)
        result = layer(x)
    assert 64 * 64 not in kept
    result.sum().backward()
    assert_close(x.grad, layer.dequantized().weight.sum(0).expand(2, 64))


def test_training_comes_near_to_the_error_of_rounding_itself():
    torch.manual_seed(0)
    layer, target = LowBitLinear.of(nn.Linear(16, 8), 2), nn.Linear(16, 8)
    optimizer, x = torch.optim.Adam(layer.parameters(), 3e-3), torch.randn(256, 16)
    before, losses = layer.scales.detach().clone(), []
    rounding = (LowBitLinear.of(target, 2)(x) - target(x)).detach().square().mean()  # what no training would cost
    for _ in range(150):
        loss = (layer(x) - target(x).detach()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 50 * rounding and losses[-1] < 2.5 * rounding and not torch.equal(layer.scales, before)
    expected = layer(x)
    assert torch.equal(layer.freeze()(x), expected)


def test_layers_share_their_plain_layer_s_parameters_and_mode():
    plain = nn.Conv2d(3, 4, 3).eval()
    layer = LowBitConv2d.of(plain, 8)
    assert layer.weight is plain.weight and layer.bias is plain.bias and not layer.training
    assert "bits=8, in training" in repr(layer) and "bits=8, packed" in repr(layer.freeze())


def test_the_largest_layer_s_memory_serves_all_of_a_thread(monkeypatch):
    monkeypatch.setattr(low_bit, "_kept", threading.local())
    layers = [LowBitLinear.of(nn.Linear(40, size, bias=False), 3).freeze() for size in (30, 10)]
    x = torch.randn(1, 40)
    expected = [layer.dequantized()(x) for layer in layers]
    assert all(torch.equal(layer(x), y) for layer, y in zip(layers, expected, strict=True))
    if low_bit_packing._library() is not None:
        memory = low_bit._kept.memory
        assert len(memory) == 1200 and torch.equal(memory[:400].view(10, 40), layers[1].rounded_weight())
    wrong = []

    def call_often(layer, y):
        wrong.extend(1 for _ in range(100) if not torch.equal(layer(x), y))

    threads = [threading.Thread(target=call_often, args=pair) for pair in zip(layers, expected, strict=True)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert not wrong


def test_memory_of_inference_mode_serves_gradients_too(monkeypatch):
    monkeypatch.setattr(low_bit, "_kept", threading.local())
    layer, x = LowBitLinear.of(nn.Linear(12, 3), 2).freeze(), torch.randn(2, 12)
    with torch.inference_mode():
        expected = layer(x).clone()
    result = layer(x.requires_grad_())
    assert torch.equal(result, expected)
    result.sum().backward()
    assert_close(x.grad, layer.rounded_weight().sum(0).expand(2, 12))


def test_casting_keeps_packed_scales_and_computes_in_the_input_s_type():
    layer, x = LowBitLinear.of(nn.Linear(24, 6), 4).freeze(), torch.randn(3, 24)
    exact = layer.rounded_weight()
    half = layer.to(torch.bfloat16)
    assert half.scales.dtype == torch.float16 and torch.equal(half.rounded_weight(), exact)
    expected = nn.functional.linear(x.bfloat16(), exact.bfloat16(), half.bias)
    assert half.bias.dtype == torch.bfloat16 and torch.equal(half(x.bfloat16()), expected)
    assert half.weight.dtype == half.dequantized().weight.dtype == torch.bfloat16


def test_a_packed_weight_can_be_read_but_not_written_to():
    layer = LowBitLinear.of(nn.Linear(5, 4), 2).freeze()
    assert torch.equal(layer.weight, layer.rounded_weight()) and type(layer.weight * 2) is torch.Tensor
    with pytest.raises(ValueError, match="packed weights cannot be written to: keep adapters beside them"):
        layer.weight.data += 1
    with pytest.raises(AttributeError, match="wieght"):
        layer.wieght  # noqa: B018


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_adapters_of_peft_learn_on_packed_weights_and_are_not_fused_into_them(kind):
    peft = pytest.importorskip("peft", reason="peft comes with the extra 'train'")
    _, layer, x = case(kind, 2)
    model = nn.Sequential(layer.freeze())
    before, words = model(x), layer.words.clone()
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
    assert not torch.equal(wrapped(x), before)
    wrapped(x).square().sum().backward()
    learning = {
        name.rpartition(".0.")[2] for name, parameter in wrapped.named_parameters() if parameter.grad is not None
    }
    assert learning == {"lora_A.default.weight", "lora_B.default.weight"}
    with pytest.raises(ValueError, match="packed weights cannot be written to"):
        wrapped.merge_adapter()
    with wrapped.disable_adapter():
        assert torch.equal(wrapped(x), before) and torch.equal(layer.words, words)


def test_packed_weights_of_a_file_are_checked():
    layer = LowBitLinear.of(nn.Linear(10, 4), 1).freeze()
    words, scales = layer.words.clone(), layer.scales.clone()
    empty = LowBitLinear.of(nn.Linear(10, 4, device="meta"), 1).freeze_empty(torch.float32)
    assert empty.words.is_meta and empty.scales.is_meta and empty.words.shape == words.shape
    for wrong, message in (
        (words[:0], r"words must be torch.int64 of shape \(1,\) for 40 digits"),
        (words.int(), "not torch.int32"),
        (torch.tensor([-1]), r"words of 40 digits must be below 3\*\*40, not 18446744073709551615"),
    ):
        with pytest.raises(ValueError, match=message):
            empty.load_words(wrong)
    for wrong, message in (
        (scales.float(), r"scales must be torch.float16 of shape \(4,\), not torch.float32"),
        (scales[:3], r"not torch.float16 of shape \(3,\)"),
        (scales * 0, "scales must be positive and finite, not 0.0"),
        (scales * float("nan"), "scales must be positive and finite, not nan"),
    ):
        with pytest.raises(ValueError, match=message):
            empty.load_scales(wrong)
    empty.load_words(words)
    empty.load_scales(scales)
    assert torch.equal(empty.rounded_weight(), layer.rounded_weight())


def test_bits_weights_and_scales_that_are_none_are_refused():
    with pytest.raises(ValueError, match="bits must be a whole number from 1 to 8, not 9"):
        LowBitLinear.of(nn.Linear(3, 3), 9)
    plain = nn.Linear(3, 3)
    layer = LowBitLinear.of(plain, 2)
    nn.init.constant_(layer.scales, float("nan"))
    with pytest.raises(ValueError, match="scales must be finite, not nan"):
        layer.freeze()
    nn.init.constant_(plain.weight, float("nan"))
    with pytest.raises(ValueError, match="weights must be finite"):
        LowBitLinear.of(plain, 2)
