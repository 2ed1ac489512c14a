"""Rungs of the ladder, on a tiny UNet: what each changes, with scales, bits and bytes worked out by hand."""

import copy
import math
from dataclasses import fields, replace

import pytest
import torch
from faked_scores_bitsfusion import drawn
from safetensors.torch import load_file
from tiny_bitsfusion import make_pipeline

from pocket_diffusers.eval.benchmark import Benchmark, Run
from pocket_diffusers.eval.claims.bitsfusion import ladder
from pocket_diffusers.eval.claims.bitsfusion.ladder import RUNGS, UnbalancedLevels, bits_of, new_student, stored_bytes
from pocket_diffusers.eval.claims.bitsfusion.pictures import PACKED
from pocket_diffusers.eval.claims.bitsfusion.settings import Settings
from pocket_diffusers.hub_models.layers.low_bit_levels import Levels
from pocket_diffusers.hub_models.layers.low_bit_packing import decode_weight, pack_weight
from pocket_diffusers.hub_models.layers.low_bit_scales import alternating_scales
from pocket_diffusers.hub_models.layers.time_embedding_cache import replaced_layers
from pocket_diffusers.hub_models.quantizer_bitsfusion import BitsFusionConfig, low_bit_layers, pack_model
from pocket_diffusers.pipelines.files import write_json
from pocket_diffusers.training.conditions import CachedConditions
from pocket_diffusers.training.datasets.streams import shuffled_batches

INNER = "mid_block.resnets.0.conv1"
UNIFORM = BitsFusionConfig(default_bits=2)
CACHED = BitsFusionConfig({"conv_in": 8, INNER: 1}, 3, cached_timesteps=[1, 501, 981])


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline()


def test_each_rung_differs_from_the_one_before_in_one_part():
    parts = [entry.name for entry in fields(ladder.Rung) if entry.name != "words"]
    rungs = list(RUNGS.values())
    assert not any(getattr(rungs[0], part) for part in parts), "the first is LSQ"
    assert all(getattr(rungs[-1], part) for part in parts), "the last is the whole method"
    for before, after in zip(rungs, rungs[1:], strict=False):
        assert sum(getattr(before, part) != getattr(after, part) for part in parts) == 1


def test_unbalanced_levels_are_packed_and_decoded():
    levels = UnbalancedLevels(2)
    assert (levels.lowest, levels.highest, levels.count, levels.bits_per_weight) == (-2, 1, 4, 2.0)
    weight = torch.tensor([[-9.0, -2.0, -1.0, 0.0, 1.0, 2.0, 9.0] * 20, [-4.0, -2.0, 0.0, 2.0, 1.9, 0.2, 3.0] * 20])
    scales = torch.tensor([1.0, 2.0])
    words = pack_weight(weight, scales, levels)
    assert len(words) == math.ceil(280 / 32), "32 weights of two bits in a word of 64"
    wanted = torch.tensor([[-2.0, -2, -1, 0, 1, 1, 1] * 20, [-4.0, -2, 0, 2, 2, 0, 2] * 20])
    assert torch.equal(decode_weight(words, scales, weight.shape, levels), wanted)


def test_the_first_rung_rounds_from_the_largest_weights_to_four_levels(pipeline):
    student = new_student(RUNGS["lsq"], pipeline.unet, UNIFORM)
    layers = low_bit_layers(student)
    assert {layer.levels.count for layer in layers.values()} == {4, 256}
    assert all((layer.levels.count == 256) == (name in ("conv_in", "conv_out")) for name, layer in layers.items())
    weight = pipeline.unet.get_submodule(INNER).weight.detach()
    low, high = weight.flatten(1).min(1).values, weight.flatten(1).max(1).values
    torch.testing.assert_close(layers[INNER].scales.detach(), torch.maximum(-low / 2, high / 1), rtol=1e-6, atol=0)
    assert all(value.requires_grad for value in student.parameters()), "layers of time learn too"
    rounded = layers[INNER].rounded_weight()
    pack_model(student)
    assert torch.equal(layers[INNER].rounded_weight(), rounded), "what is packed is what was trained"


def test_later_rungs_take_five_levels_then_better_scales_then_leave_time(pipeline):
    weight = pipeline.unet.get_submodule(INNER).weight.detach()
    balanced = low_bit_layers(new_student(RUNGS["balance"], pipeline.unet, UNIFORM))[INNER]
    assert balanced.levels == Levels(2)
    torch.testing.assert_close(
        balanced.scales.detach(), weight.abs().flatten(1).max(1).values / 2, rtol=1e-6, atol=0
    )  # fmt: skip
    better = low_bit_layers(new_student(RUNGS["alternating"], pipeline.unet, UNIFORM))[INNER]
    assert torch.equal(better.scales.detach(), alternating_scales(weight, Levels(2)))
    assert (better.rounded_weight() - weight).norm() < (balanced.rounded_weight() - weight).norm()
    mixed = new_student(RUNGS["mixed"], pipeline.unet, CACHED)
    time = set(replaced_layers(pipeline.unet))
    assert {name.rpartition(".")[0] for name, value in mixed.named_parameters() if not value.requires_grad} == time
    assert {name: layer.levels.bits for name, layer in low_bit_layers(mixed).items()}[INNER] == 1


def test_bits_of_a_rung_are_two_by_hand(pipeline):
    """All weights between first and last layer carry log2 4 or log2 5 bits; those two 8."""
    unet = pipeline.unet
    ends = sum(unet.get_submodule(name).weight.numel() for name in ("conv_in", "conv_out"))
    inner = sum(
        layer.weight.numel() for layer in unet.modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))
    ) - ends  # fmt: skip
    for name, bits in (("lsq", 2.0), ("balance", math.log2(5))):
        student = new_student(RUNGS[name], unet, UNIFORM)
        assert bits_of(unet, student, UNIFORM) == pytest.approx((8 * ends + bits * inner) / (ends + inner), rel=1e-6)
    mixed = bits_of(unet, new_student(RUNGS["mixed"], unet, CACHED), CACHED)
    counts = {
        name: layer.weight.numel() for name, layer in unet.named_modules()
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))
    }  # fmt: skip
    own = {"conv_in": 8, INNER: 1, "conv_out": 8}
    time = set(replaced_layers(unet))
    wide = sum(unet.get_submodule(name).out_features for name in time if name.endswith("time_emb_proj"))
    levels = {1: 3, 3: 9, 8: 256}
    total = sum(
        count * math.log2(levels[own.get(name, 3)]) for name, count in counts.items() if name not in time
    ) + 3 * 16 * wide  # fmt: skip
    assert mixed == pytest.approx(total / sum(counts.values()), rel=1e-6)


def test_stored_bytes_are_those_of_a_saved_repository(pipeline, tmp_path):
    student = pack_model(new_student(RUNGS["mixed"], pipeline.unet, CACHED))
    student.save_pretrained(tmp_path / "float32")
    halved = type(student).from_pretrained(tmp_path / "float32", torch_dtype=torch.float16)
    halved.save_pretrained(tmp_path / "float16")
    tensors = load_file(tmp_path / "float16" / "diffusion_pytorch_model.safetensors").values()
    assert stored_bytes(student) == sum(value.nbytes for value in tensors)
    full = sum(2 * value.numel() for value in pipeline.unet.parameters())
    assert stored_bytes(pipeline.unet) == full > stored_bytes(student)


def test_mixed_bits_are_those_of_the_committed_model(tmp_path):
    settings = Settings(checkpoints=tmp_path)
    assert ladder.rung_config(RUNGS["alternating"], settings).to_dict() == UNIFORM.to_dict()
    write_json(tmp_path / PACKED / "unet" / "config.json", {"quantization_config": CACHED.to_dict()})
    assert ladder.rung_config(RUNGS["mixed"], settings).to_dict() == CACHED.to_dict()


@pytest.fixture
def lessons(pipeline, monkeypatch):
    monkeypatch.setattr(ladder, "DISTILL", {"nano": replace(ladder.DISTILL["nano"], mixed_precision="no")})
    torch.manual_seed(0)
    conditions = CachedConditions(torch.randn(6, 4, 4, 4), (torch.randn(3, 5, 16),), torch.arange(6) % 2, 2, 0.1)
    return ladder.Lessons(pipeline, conditions, shuffled_batches(6, 2, 0, 1), 2)


def test_a_rung_learns_what_it_says_it_does(pipeline, lessons, monkeypatch):
    asked, distillation = [], ladder.Distillation

    def spied(*given):
        asked.append((given[5], given[6]))
        return distillation(*given)

    monkeypatch.setattr(ladder, "Distillation", spied)
    before = copy.deepcopy(pipeline.unet.state_dict())
    for name in ("mixed", "features", "timesteps"):
        student = new_student(RUNGS[name], pipeline.unet, CACHED)
        started = {key: value.clone() for key, value in student.state_dict().items()}
        lessons.distil(student, RUNGS[name])
        moved = {key for key, value in student.state_dict().items() if not torch.equal(value, started[key])}
        assert f"{INNER}.weight" in moved and not any(key.startswith("time_embedding") for key in moved)
        assert not student.training
    assert asked == [(0.0, 1.0), (0.01, 1.0), (0.01, 3.0)], "feature weight and alpha of the timesteps"
    assert all(torch.equal(value, before[key]) for key, value in pipeline.unet.state_dict().items()), "of the teacher"


def test_every_rung_has_rows_beside_the_control(pipeline, lessons, monkeypatch, tmp_path):
    """Lessons of two steps; raters that see nothing but count what they were shown."""
    shown = []

    class Raters:
        def __init__(self, settings, images):
            assert images == 2

        def rate(self, shown_pipeline):
            shown.append(shown_pipeline.unet)
            return drawn(0.9 - 0.05 * len(shown), 0.3)

    write_json(tmp_path / PACKED / "unet" / "config.json", {"quantization_config": CACHED.to_dict()})
    monkeypatch.setattr(ladder, "Raters", Raters)
    monkeypatch.setattr(ladder.Lessons, "load", lambda settings: lessons)
    settings = Settings(checkpoints=tmp_path, ladder_images=2)
    run = Run(Benchmark("bitsfusion", settings, {}), "ladder", tmp_path)
    rows = {row.id: row for row in ladder.measure_ladder(settings, run)}
    assert set(rows) == {"geneval-control", "clip-control", "ladder-control-bytes"} | {
        f"ladder-{name}-{what}" for name in RUNGS for what in ("geneval", "clip", "bits", "bytes")
    }
    assert len(shown) == 1 + len(RUNGS) and not hasattr(shown[0], "is_quantized")
    assert all(unet.is_quantized for unet in shown[1:])
    assert rows["ladder-lsq-geneval"].measured == pytest.approx(0.8)
    last = rows["ladder-second-stage-geneval"]
    assert last.rival_measured == pytest.approx(0.85) and last.target == pytest.approx(0.98 * 0.85)
    assert rows["ladder-second-stage-bits"].target == 2.0 and rows["ladder-timesteps-bits"].target is None
    assert rows["ladder-lsq-bits"].measured < rows["ladder-balance-bits"].measured
    assert rows["ladder-lsq-bytes"].measured < rows["ladder-balance-bytes"].measured
    assert rows["ladder-control-bytes"].measured == stored_bytes(pipeline.unet)
