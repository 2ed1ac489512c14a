"""Files of LPGS scenes: what comes back, what each part costs, and files that are damaged or lie."""

import json
import os
import resource
from dataclasses import asdict, fields

import damaged_files
import numpy as np
import pytest
import safetensors.numpy
import torch

from pocket_diffusers.hub_models.container_lpgs import (
    LPGSSteps,
    decode_scene,
    encode_scene,
    round_parents,
    storage_report,
    stored_circle,
)
from pocket_diffusers.hub_models.gaussians_lpgs import LPGSGaussians
from pocket_diffusers.hub_models.rendering.cameras import intrinsics, look_at
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians

HOSTILE_CASES = int(os.environ.get("POCKET_HOSTILE_CASES", "1000"))
STEPS = LPGSSteps(0.013)
SMALL = {
    "num_parents": 20,
    "grid_dim": 4,
    "hash_levels": 2,
    "hash_log2_size": 6,
    "hash_base_resolution": 2,
    "hash_max_resolution": 8,
    "head_width": 4,
    "sh_degree": 1,
}


def scene(seed: int = 0, **changes) -> LPGSGaussians:
    torch.manual_seed(seed)
    made = LPGSGaussians(**{**SMALL, **changes})
    with torch.no_grad():
        for value in made.parameters():
            value.normal_(0, 0.4)
        made.parent_log_scales.sub_(2)
    return made.eval()


def assert_same(ours: LPGSGaussians, theirs: LPGSGaussians) -> None:
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name


def told(data: bytes) -> dict:
    return json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["lpgs"])


def retold(data: bytes, about: object, **tensors: np.ndarray) -> bytes:
    """The file with another metadata text, or other tensors."""
    text = about if isinstance(about, str) else json.dumps(about)
    return safetensors.numpy.save({**safetensors.numpy.load(data), **tensors}, {"lpgs": text})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"children_per_parent": 0, "num_parents": 1},
        {"encoding": "frequency", "attention": False},
        {"grid_dim": 16, "hash_levels": 4, "center": (1.0, -2.0, 0.5), "radius": 3.5, "contraction": "box"},
    ],
    ids=str,
)
def test_scenes_come_back_bit_for_bit_after_the_first_rounding(changes):
    made = scene(**changes)
    data = encode_scene(made, STEPS)
    once = decode_scene(data)
    assert encode_scene(once, STEPS) == data
    assert_same(decode_scene(data), once)
    assert json.loads(once.to_json_string()) == json.loads(made.to_json_string()) and not once.training


@torch.no_grad()
def test_every_number_is_within_half_a_step():
    made = scene()
    read = decode_scene(encode_scene(made, STEPS))
    order = torch.cdist(read.parent_means, made.parent_means).argmin(1)
    assert sorted(order.tolist()) == list(range(20))
    assert float((read.parent_means - made.parent_means[order]).abs().max()) <= 0.0065 + 1e-6
    assert float((read.parent_log_scales - made.parent_log_scales[order]).abs().max()) <= 0.075 + 1e-6
    assert float((read.grid.table - made.grid.table).abs().max()) <= 0.025 + 1e-6
    for name, value in made.named_parameters():
        if not name.startswith(("parent_", "grid")):
            assert torch.equal(read.get_parameter(name), value.half().float()), name


@torch.no_grad()
def test_a_decoded_scene_renders_as_the_one_that_was_trained_for_it():
    made = scene()
    round_parents(made, STEPS)
    made.grid.table.copy_((made.grid.table.double() / 0.05).round() * 0.05)
    for name, value in made.named_parameters():
        if not name.startswith(("parent_", "grid")):
            value.copy_(value.half())
    read = decode_scene(encode_scene(made, STEPS))
    order = torch.cdist(read.parent_means, made.parent_means).argmin(1)  # what is drawn depends on it in the last bits
    for name in made.rows:
        made.get_parameter(name).copy_(made.get_parameter(name)[order])
    camera = look_at((0.0, 0.5, -5.0), (0.0, 0.0, 0.0))[None], intrinsics(40.0, 24, 24)[None], 24, 24
    pictures = [rasterize_gaussians(one.expand(), *camera).rgb for one in (made, read)]
    assert torch.equal(*pictures) and float(pictures[0].max()) > 0.1


@torch.no_grad()
def test_rounded_parents_are_exactly_those_of_the_file_and_stay():
    made = scene(num_parents=300)
    made.parent_means.mul_(40)
    round_parents(made, STEPS)
    means, scales = made.parent_means.clone(), made.parent_log_scales.clone()
    round_parents(made, STEPS)
    assert torch.equal(means, made.parent_means) and torch.equal(scales, made.parent_log_scales)
    read = decode_scene(encode_scene(made, STEPS))
    rows = torch.cat([means, scales], 1).tolist()
    assert sorted(torch.cat([read.parent_means, read.parent_log_scales], 1).tolist()) == sorted(rows)


def test_encoding_leaves_the_scene_alone():
    made = scene()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    encode_scene(made, STEPS)
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in before.items())


def test_a_scene_in_half_precision_has_a_file_too():
    made = scene().half()
    read = decode_scene(encode_scene(made, STEPS))
    assert torch.equal(read.shape_head[0].weight, made.shape_head[0].weight.float())


def test_storage_report_adds_up():
    made = scene()
    data = encode_scene(made, STEPS)
    report = storage_report(data)
    assert sum(report.values()) == len(data)
    assert set(report) == {"positions", "scales", "grid", "networks", "container"}
    apart = made.parent_means.numel() + made.parent_log_scales.numel() + made.grid.table.numel()
    assert report["networks"] == 2 * (made.num_parameters() - apart)
    assert all(size > 0 for size in report.values())


def test_a_parent_of_a_fit_that_changed_their_number_is_counted():
    made = scene()
    made.parent_means.data, made.parent_log_scales.data = made.parent_means[:6], made.parent_log_scales[:6]
    assert decode_scene(encode_scene(made, STEPS)).num_parents == 6


@pytest.mark.parametrize(
    ("name", "value", "steps", "sentence"),
    [
        ("parent_means", float("nan"), {}, "parent_means must be finite"),
        ("grid.table", float("inf"), {}, "grid.table must be finite"),
        ("shape_head.0.weight", 1e5, {}, "Weights of the networks must be at most 65504, not 100000"),
        ("grid.table", 100.0, {}, "grid_step must be at least 0.0667, not 0.05"),
        ("parent_means", 1e20, {}, "position_step must be at least"),
        ("parent_means", 1e4, {"position_step": 1e-3}, "Cells must span at most"),
        ("parent_log_scales", 7.0, {"scale_step": 1e-9}, "scale_step must be at least"),
        ("parent_log_scales", 7.0, {"scale_step": 1e-4}, "values must span at most 4096 steps"),
    ],
)
@torch.no_grad()
def test_what_no_file_can_say_is_refused_in_one_sentence(name, value, steps, sentence):
    made = scene()
    made.get_parameter(name).flatten()[0] = value
    with pytest.raises(ValueError, match=sentence) as caught:
        encode_scene(made, LPGSSteps(**{"position_step": 0.013, **steps}))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e10, "1", True, None])
@pytest.mark.parametrize("name", ["position_step", "scale_step", "grid_step"])
def test_bad_steps_are_refused_in_one_sentence(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a number from 1e-9 to 1e9, not"):
        LPGSSteps(**{"position_step": 0.1, name: value})


# Files of others.

WEIRD = [
    None, True, False, -1, 0, 1, 3, 7, 24, 2**31, 2**31 + 1, 10**40, -0.5, 0.5, 1e300, float("nan"), float("inf"),
    "", "hash", "x" * 5000, [], [1], [0.0, 0.0, 0.0], [1e300] * 3, [float("nan")] * 3, [10**400] * 3, [True] * 3,
    {}, {"a": 1}, [[[[[[[[1]]]]]]]],
]  # fmt: skip


def damaged(whole: bytes, draw: np.random.Generator) -> bytes:
    """A file with damaged bytes, or with something else in one of its tensors or in its metadata."""
    match int(draw.integers(9)):
        case 5:
            tensors = {name: value.copy() for name, value in safetensors.numpy.load(whole).items()}
            name = sorted(tensors)[int(draw.integers(4))]
            flat = tensors[name].view(np.uint8)
            flat[int(draw.integers(min(len(flat), 40)))] = int(draw.integers(256))
            return retold(whole, told(whole), **{name: flat.view(tensors[name].dtype)})
        case 6:
            about = told(whole)
            part = about if draw.integers(6) == 0 else about[("model", "steps")[int(draw.integers(4) == 0)]]
            name = sorted(part)[int(draw.integers(len(part)))]
            value = WEIRD[int(draw.integers(len(WEIRD)))]
            part.pop(name) if draw.integers(8) == 0 else part.update({name: value})
            return retold(whole, about)
        case 7:
            about = told(whole)
            for name in draw.choice(sorted(about["model"]), 3, replace=False):
                if type(about["model"][name]) in (int, float):
                    about["model"][name] = type(about["model"][name])(draw.integers(0, 40))
            return retold(whole, about)
        case 8:
            text = json.dumps(told(whole))
            start = int(draw.integers(len(text)))
            return retold(
                whole, text[:start] + str(draw.choice(["", "{", "[", '"', "1e999", "NaN"])) + text[start + 1 :]
            )
    return damaged_files.damaged(whole, draw)


def test_damaged_files_are_read_or_refused_in_one_sentence_and_no_size_is_believed():
    files = [
        encode_scene(scene(), STEPS),
        encode_scene(scene(1, encoding="frequency", hash_max_resolution=4, children_per_parent=1), STEPS),
    ]
    draw, refused = np.random.default_rng(0), 0
    decode_scene(files[0]).expand().check_finite()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(HOSTILE_CASES):
        data = damaged(files[case % 2], draw)
        try:
            with torch.no_grad():
                read = decode_scene(data)
                assert sum(value.numel() for value in read.parameters()) < 100_000
                storage_report(data)
                read.expand().check_finite()
        except ValueError as error:
            text = str(error)
            assert text.endswith(".") and "\n" not in text and len(text) < 500, text
            refused += 1
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{refused} of {HOSTILE_CASES} damaged files were refused; the peak of memory rose by {more / 1024:.0f} MiB")
    assert refused > 0.7 * HOSTILE_CASES and more < 100 * 1024


@pytest.mark.parametrize(
    "changes",
    [
        {"num_parents": 2**31 - 1},
        {"num_parents": 2**31},
        {"num_parents": 21},
        {"hash_log2_size": 24, "hash_levels": 32, "grid_dim": 256, "hash_max_resolution": 2**20},
        {"hash_log2_size": 25},
        {"head_width": 1024, "grid_dim": 256},
        {"sh_degree": 3},
        {"children_per_parent": 1},
    ],
    ids=str,
)
def test_sizes_that_the_streams_do_not_hold_are_refused_before_anything_is_made(changes, monkeypatch):
    data = encode_scene(scene(), STEPS)
    about = told(data)
    lie = retold(data, {**about, "model": about["model"] | changes})
    made: list[str] = []
    monkeypatch.setattr(torch.nn.Parameter, "__new__", watched_parameters(made))
    with pytest.raises(ValueError, match="of an LPGS file must be") as caught:
        decode_scene(lie)
    assert len(str(caught.value).splitlines()) == 1
    assert set(made) <= {"meta"}, "a model was made before its sizes were believed"


def watched_parameters(devices: list[str]):
    make = torch.nn.Parameter.__new__

    def new(cls, data=None, requires_grad=True):
        devices.append(data.device.type)
        return make(cls, data, requires_grad)

    return new


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("encoding", "fourier", "encoding must be 'hash' or 'frequency', not 'fourier'."),
        ("contraction", "ball", "contraction must be 'mipnerf360' or 'box'"),
        ("hash_levels", 0, "hash_levels must be at least 1, not 0."),
        ("attention", 1, "attention of an LPGS file must be like True, not 1."),
        ("radius", float("nan"), "radius of an LPGS file must be like 1.0, not nan."),
        ("center", [0, 0], r"center of an LPGS file must be like \(0.0, 0.0, 0.0\), not"),
        ("head_width", -3, "head_width of an LPGS file must be from 0 to 1024, not -3."),
        ("num_parents", "20", "num_parents of an LPGS file must be like 1, not '20'."),
    ],
)
def test_a_damaged_configuration_is_refused_in_one_sentence(name, value, sentence):
    data = encode_scene(scene(), STEPS)
    about = told(data)
    about["model"][name] = value
    with pytest.raises(ValueError, match=sentence):
        decode_scene(retold(data, about))


def test_networks_that_are_no_numbers_and_another_version_are_refused():
    data = encode_scene(scene(), STEPS)
    networks = safetensors.numpy.load(data)["networks"].copy()
    networks[3] = np.nan
    with pytest.raises(ValueError, match="networks of an LPGS file must be finite"):
        decode_scene(retold(data, told(data), networks=networks))
    with pytest.raises(ValueError, match="must be of version 1 with tensors .*, not 2."):
        decode_scene(retold(data, told(data) | {"version": 2}))
    with pytest.raises(ValueError, match="must be in the safetensors format"):
        storage_report(b"")


def test_a_file_says_in_json_what_it_holds():
    about = told(encode_scene(scene(), STEPS))
    assert about["steps"] == asdict(STEPS) and about["version"] == 1
    assert set(about["steps"]) == {field.name for field in fields(LPGSSteps)}
    assert about["model"]["num_parents"] == 20


CIRCLE = {"center": [0.0, 1.0, 2.0], "distance": 3.0, "elevation": -20.0, "up": "z"}


def test_a_file_says_from_where_its_scene_is_looked_at():
    plain, told_so = encode_scene(scene(), STEPS), encode_scene(scene(), STEPS, CIRCLE)
    assert stored_circle(plain) is None and stored_circle(told_so) == CIRCLE
    assert_same(decode_scene(told_so), decode_scene(plain))


@pytest.mark.parametrize(
    "circle",
    [
        {**CIRCLE, "center": [0.0, 1.0]},
        {**CIRCLE, "center": "abc"},
        {**CIRCLE, "center": [0.0, 1.0, float("nan")]},
        {**CIRCLE, "distance": 0.0},
        {**CIRCLE, "distance": True},
        {**CIRCLE, "elevation": 90.0},
        {**CIRCLE, "up": "w"},
        {"center": [0.0, 1.0, 2.0]},
        [1, 2],
        7,
    ],
    ids=str,
)
def test_a_circle_that_is_none_is_refused(circle):
    sentence = "circle of an LPGS file must have center"
    with pytest.raises(ValueError, match=sentence):
        encode_scene(scene(), STEPS, circle)
    data = encode_scene(scene(), STEPS)
    with pytest.raises(ValueError, match=sentence):
        decode_scene(retold(data, {**told(data), "circle": circle}))
