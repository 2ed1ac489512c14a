"""BitsFusion's mixed precision: worked by hand, against a naive twin, and what holds for any sensitivities."""

import json
import math
import statistics

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.hub_models.assignment_bitsfusion import (
    Sensitivity,
    assign_bits,
    bits_under,
    clip_refinement,
    layers_of_time,
    measured_layers,
    weight_counts,
)
from pocket_diffusers.hub_models.quantizer_bitsfusion import average_bits

B1, B2, B3, B4 = (math.log2(2**b + 1) for b in range(1, 5))


def of(layer: str, *errors: float, drop: float | None = None) -> list[Sensitivity]:
    return [Sensitivity(layer, bits, error, drop) for bits, error in enumerate(errors, 1)]


ERRORS = st.lists(st.floats(0, 6000), min_size=3, max_size=3)
MODELS = st.lists(
    st.tuples(ERRORS, st.integers(1, 10**6), st.floats(-0.1, 0.1)), min_size=1, max_size=12
)  # errors, weights and CLIP drop of each layer


def built(model: list, with_drops: bool) -> tuple[list[Sensitivity], dict[str, int]]:
    sensitivities = [
        each
        for i, (errors, _, drop) in enumerate(model)
        for each in of(f"l{i}", *errors, drop=drop if with_drops else None)
    ]
    return sensitivities, {f"l{i}": count for i, (_, count, _) in enumerate(model)}


def test_two_layers_by_hand():
    sensitivities, weights = of("big", 8, 4, 2) + of("small", 9, 5, 1), {"big": 300, "small": 100}
    plain = {"weights": weights, "size_exponent": 0}
    # Thresholds from high to low: under 9 big takes 1 bit and small 2; under 8 big takes 2.
    assert assign_bits(sensitivities, target=B1, **plain) == {"big": 1, "small": 1}
    assert assign_bits(sensitivities, target=(3 * B1 + B2) / 4, **plain) == {"big": 1, "small": 2}
    assert assign_bits(sensitivities, target=(3 * B2 + B2) / 4 - 1e-9, **plain) == {"big": 1, "small": 2}
    assert assign_bits(sensitivities, target=B2, **plain) == {"big": 2, "small": 2}
    # 1000^-1 makes the large layer the less sensitive one.
    sizes = {"big": 1000, "small": 10}
    chosen = assign_bits(sensitivities, sizes, (1000 * B1 + 10 * B4) / 1010, size_exponent=1)
    assert chosen == {"big": 1, "small": 4}


def test_fixed_layers_and_a_cache_count_and_others_stay_in_full_precision():
    weights = {"conv_in": 10, "a": 100, "time_embedding.linear_1": 50, "norm_like": 5}
    given_ = {"fixed": {"conv_in": 8}, "cached": ["time_embedding.linear_1"], "cached_values": 7}
    least = (10 * 8 + 100 * B1 + 16 * 7 + 5 * 32) / 165
    assert assign_bits(of("a", 3, 2, 1), weights, least, **given_) == {"conv_in": 8, "a": 1}
    with pytest.raises(ValueError, match=f"the average must be at least {least:.4f} bits.*, not {least - 0.01!r}"):
        assign_bits(of("a", 3, 2, 1), weights, least - 0.01, **given_)


def test_the_drop_of_the_clip_score_at_three_bits_refines():
    drops = {f"l{i}": i / 1000 for i in range(101)}  # the percentiles are drops themselves, and not above them
    more = clip_refinement(drops)
    assert [more[f"l{i}"] for i in (0, 90, 91, 95, 96, 98, 99, 100)] == [0, 0, 1, 1, 2, 2, 3, 3]
    weights = dict.fromkeys(drops, 64)
    sensitivities = [each for layer, drop in drops.items() for each in of(layer, 0, 0, 0, drop=drop)]
    assert assign_bits(sensitivities, weights, 3) == {layer: 1 + more[layer] for layer in drops}
    assert clip_refinement({}) == {}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=60))
def test_percentiles_are_those_of_the_statistics_library(drops):
    hundredths = statistics.quantiles(drops, n=100, method="inclusive")
    limits = [hundredths[p - 1] for p in (90, 95, 98)]
    more = clip_refinement({str(i): drop for i, drop in enumerate(drops)})
    for i, drop in enumerate(drops):
        if all(abs(drop - limit) > 1e-12 for limit in limits):
            assert more[str(i)] == sum(drop > limit for limit in limits)


@settings(max_examples=100, deadline=None)
@given(MODELS, st.floats(1.6, 8), st.booleans())
def test_the_naive_search_over_every_threshold_finds_no_nearer_average(model, target, with_drops):
    sensitivities, weights = built(model, with_drops)
    more = clip_refinement({each.layer: each.clip_drop for each in sensitivities if with_drops and each.bits == 3})
    limits = {each.mse * weights[each.layer] ** -0.3 for each in sensitivities} | {math.inf}

    def averages(raised: int) -> list[float]:
        found = []
        for limit in limits:
            total = 0.0
            for layer, count in weights.items():
                own = 4
                for bits in (3, 2, 1):  # the last that satisfies wins
                    score = sensitivities[3 * list(weights).index(layer) + bits - 1].mse * count**-0.3
                    if score < limit:
                        own = bits
                own = min(own + more.get(layer, 0) + raised, 8)
                total += count * (8 if own == 8 else math.log2(2**own + 1))
            found.append(total / sum(weights.values()))
        return found

    most = [max(averages(raised)) for raised in range(5)]
    raised = next((raised for raised in range(4) if most[raised] >= target), 4)
    possible = [average for average in averages(raised) if average <= target + 1e-9]
    if not possible:
        with pytest.raises(ValueError, match="the average must be at least"):
            assign_bits(sensitivities, weights, target)
        return
    try:
        found = average_bits(weights, assign_bits(sensitivities, weights, target))
    except ValueError:
        assert min(possible) == pytest.approx(target, abs=1e-8)  # equal but for rounding
        return
    assert found <= target
    assert found == pytest.approx(max(possible), abs=1e-8) or max(possible) == pytest.approx(target, abs=1e-8)


@settings(max_examples=100, deadline=None)
@given(MODELS, st.floats(0, 6000), st.floats(0, 6000))
def test_a_higher_threshold_never_gives_more_bits(model, low, high):
    scores = {f"l{i}": dict(enumerate(errors, 1)) for i, (errors, _, _) in enumerate(model)}
    low, high = sorted((low, high))
    fewer, more = bits_under(scores, high), bits_under(scores, low)
    assert all(fewer[layer] <= more[layer] for layer in scores)


def test_layers_of_a_small_unet_are_told_apart():
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=8, in_channels=16, out_channels=16, block_out_channels=(64, 112), layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), norm_num_groups=16, cross_attention_dim=128,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=4,
        )  # fmt: skip
    weights = weight_counts(unet)
    times = layers_of_time(weights)
    assert len(weights) == 83 and len(times) == 10 and len(measured_layers(weights)) == 71
    assert {"conv_in", "conv_out", *times, *measured_layers(weights)} == set(weights)
    assert sum(weights.values()) == 2_669_056


def test_json_gives_back_what_it_was_given():
    one = Sensitivity("conv1", 2, 12.5, -0.01)
    assert Sensitivity.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be an object of layer, bits, mse, clip_drop"),
        ({"layer": "a", "bits": 1, "mse": 1.0}, "must be an object of"),
        ({"layer": "", "bits": 1, "mse": 1.0, "clip_drop": None}, "layer must be a name, not ''"),
        ({"layer": "a", "bits": 9, "mse": 1.0, "clip_drop": None}, "bits must be a whole number from 1 to 8, not 9"),
        ({"layer": "a", "bits": 1, "mse": -1, "clip_drop": None}, "mse must be a finite number of at least 0, not -1"),
        ({"layer": "a", "bits": 1, "mse": math.nan, "clip_drop": None}, "mse must be .*, not nan"),
        ({"layer": "a", "bits": 1, "mse": 1, "clip_drop": "x"}, "clip_drop must be a finite number or None, not 'x'"),
    ],
)
def test_a_damaged_sensitivity_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        Sensitivity.from_json(content)


@pytest.mark.parametrize(
    ("sensitivities", "message"),
    [
        ([], "at least one layer"),
        (of("b", 1, 1, 1), "must be of the model's layers, not of 'b'"),
        (of("a", 1, 1), r"must hold a at 1, 2 and 3 bits, not at \[1, 2\]"),
        (of("a", 1, 1, 1)[:1] * 2, "a at 1 bits once, not twice"),
        (of("a", 1, 1, 1) + of("c", 1, 1, 1, drop=0.1), "of all layers or of none, not of 1"),
    ],
)
def test_sensitivities_that_are_not_the_models_are_refused(sensitivities, message):
    with pytest.raises(ValueError, match=message):
        assign_bits(sensitivities, {"a": 1, "c": 1}, 2)
