import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.log_covariance import log_covariances
from pocket_diffusers.hub_models.rendering.spherical_harmonics import SH_C0
from pocket_diffusers.hub_models.rendering.splat_codec import (
    SplatCodecConfig,
    decode_splats,
    encode_splats,
    size_report,
    splat_config,
    unit_length,
)
from pocket_diffusers.hub_models.rendering.splat_files import read_splats

BIKER = Path(
    os.environ.get("POCKET_DATA", Path(__file__).parents[4] / "shared" / "data"), "splats/playcanvas_engine/biker.spz"
)
HOSTILE_CASES = int(os.environ.get("POCKET_HOSTILE_CASES", "1000"))


def cloud(count: int, degree: int = 0, seed: int = 0) -> Gaussians:
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=draw),
        torch.randn(count, 3, generator=draw) - 3,
        torch.randn(count, 4, generator=draw),
        2 * torch.randn(count, generator=draw),
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw),
    )


def _nearest(source: Gaussians, decoded: Gaussians) -> Gaussians:
    """The source in the order of what was decoded; its means are far enough apart to tell."""
    index = torch.cdist(decoded.means, source.means).argmin(1)
    assert len(index.unique()) == len(source)
    return source.select(index)


def _ycocg(sh):
    r, g, b = sh.double().unbind(-1)
    return (r + 2 * g + b) / 4, (r - b) / 2, (2 * g - r - b) / 4


@pytest.mark.parametrize("degree", range(4))
def test_what_was_decoded_encodes_to_the_same_bytes(degree):
    data = encode_splats(cloud(300, degree), SplatCodecConfig(shape_step=0.1, thin_scale=1.0))
    decoded = decode_splats(data)
    config, unit = splat_config(data)
    assert decoded.sh_degree == degree and len(decoded) == 300
    assert encode_splats(decoded, config, unit=unit) == data


def test_errors_are_at_most_half_a_step():
    source = cloud(400, 2)
    config = SplatCodecConfig(position_step=0.05, thin_scale=1e-6)
    decoded = decode_splats(encode_splats(source, config))
    source = _nearest(source, decoded)
    rounding = 1e-5
    step = config.position_step * unit_length(source)
    assert (decoded.means - source.means).abs().max() <= step / 2 + rounding
    shapes = [log_covariances(splats.log_scales, splats.quaternions) for splats in (source, decoded)]
    errors = (shapes[0] - shapes[1]).abs() / (config.shape_step / 2)
    assert errors[:, 0].max() <= 1 + 1e-4
    painted = decoded.opacity_logits.sigmoid() * decoded.log_scales.mean(1).exp() / unit_length(source)
    doublings = (painted[:, None] < torch.tensor([0.6, 0.1])).sum(1)
    assert (errors[:, 1:].amax(1) <= 2.0**doublings + 1e-4).all() and doublings.unique().tolist() == [0, 1, 2]
    angles = [splats.opacity_logits.double().sigmoid().sqrt().asin() for splats in (source, decoded)]
    assert (angles[0] - angles[1]).abs().max() <= config.opacity_step / 2 + rounding
    luma, chroma = config.luma_step / SH_C0, config.chroma_step / SH_C0
    for before, after, dc, rest in zip(
        _ycocg(source.sh), _ycocg(decoded.sh), (luma, chroma, chroma),
        (config.sh_luma_step, config.sh_chroma_step, config.sh_chroma_step), strict=True,
    ):  # fmt: skip
        assert (before - after)[:, 0].abs().max() <= dc / 2 + rounding
        assert (before - after)[:, 1:].abs().max() <= rest / 2 + rounding


def test_thin_scales_are_coarser_and_others_are_not():
    source = cloud(300)
    flat = {"log_scales": torch.tensor([-2.0, -2.0, -9.0]).expand(300, 3), "opacity_logits": torch.full((300,), 5.0)}
    config = SplatCodecConfig(shape_step=0.05, thin_scale=math.exp(-4) / 0.01)
    decoded = decode_splats(encode_splats(Gaussians(**{**source.tensors(), **flat}), config, unit=0.01))
    error = (decoded.log_scales - torch.tensor([-9.0, -2, -2])).abs()
    assert error[:, 1:].max() < 0.08 < error[:, 0].max() < 8 * 0.08


def test_one_step_fits_scenes_of_any_size():
    source = cloud(200)
    larger = Gaussians(
        **{**source.tensors(), "means": source.means * 1024, "log_scales": source.log_scales + math.log(1024)}
    )
    first, second = decode_splats(encode_splats(source)), decode_splats(encode_splats(larger))
    torch.testing.assert_close(second.means, first.means * 1024, rtol=1e-4, atol=1e-2)


def test_coarser_steps_take_fewer_bytes():
    config = SplatCodecConfig()
    sizes = [len(encode_splats(cloud(2000, 1), config.coarser(factor))) for factor in (0.5, 1, 2)]
    assert sizes == sorted(sizes, reverse=True) and config.coarser(2).thin_scale == config.thin_scale
    assert config.coarser(2).luma_step == 2 * config.luma_step


@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_scenes_come_back(count):
    source = cloud(count, 3)
    assert len(decode_splats(encode_splats(source))) == count


def test_gaussians_in_one_place_all_come_back():
    source = cloud(3)
    source = source.select(torch.tensor([0] * 300 + [1, 2]))
    assert len(decode_splats(encode_splats(source))) == 302


def test_extreme_opacities_stay_extreme_and_finite():
    source = cloud(2)
    source = Gaussians(**{**source.tensors(), "opacity_logits": torch.tensor([40.0, -40.0])})
    opacities = decode_splats(encode_splats(source)).opacity_logits.sigmoid().sort().values
    assert opacities[0] < 1e-5 and opacities[1] > 1 - 1e-5


def test_the_report_accounts_for_every_byte():
    data = encode_splats(cloud(500, 3))
    report = size_report(data)
    assert set(report) == {"positions", "opacity", "size", "shape", "color", "sh_1", "sh_2", "sh_3", "container"}
    assert sum(report.values()) == len(data) and report["container"] < 1000


@pytest.mark.skipif(not BIKER.exists(), reason=f"{BIKER} is not here: set POCKET_DATA")
def test_a_scanned_person_takes_a_fourth_of_its_spz():
    source = read_splats(BIKER)
    data = encode_splats(source)
    assert len(decode_splats(data)) == len(source) and 4 * len(data) < BIKER.stat().st_size


def test_bad_splats_are_refused():
    source = cloud(5)
    for name in source.tensors():
        broken = cloud(5)
        broken.tensors()[name][3] = float("nan")
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            encode_splats(broken)
    with pytest.raises(ValueError, match="quaternions must have a length"):
        encode_splats(Gaussians(**{**source.tensors(), "quaternions": torch.zeros(5, 4)}))
    with pytest.raises(
        ValueError,
        match="means must span at most 1048576 steps of 1 an axis, not .*; a larger position_step spans more",
    ):
        encode_splats(Gaussians(**{**source.tensors(), "means": source.means * 1e6}), unit=1.0)
    with pytest.raises(ValueError, match="means must be less than 2"):
        encode_splats(source, unit=1e-9)
    with pytest.raises(ValueError, match="span at most 4096 steps"):
        encode_splats(source, SplatCodecConfig(shape_step=1e-5))
    for step in (0, -1, math.nan, math.inf, True, "1"):
        with pytest.raises(ValueError, match="luma_step must be a number from 1e-9 to 1e9"):
            SplatCodecConfig(luma_step=step)


def _about(data: bytes) -> dict:
    return json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["splats"])


def _with(data: bytes, **changes) -> bytes:
    """The file with metadata changed."""
    about = _about(data) | changes
    about = {name: value for name, value in about.items() if value is not None}
    return safetensors.numpy.save(safetensors.numpy.load(data), {"splats": json.dumps(about)})


def test_files_that_contradict_themselves_are_refused():
    data, other = encode_splats(cloud(20)), encode_splats(cloud(21))
    streams, others = safetensors.numpy.load(data), safetensors.numpy.load(other)
    about = {"splats": json.dumps(_about(data))}

    def saved(**tensors):
        return safetensors.numpy.save({name: value for name, value in tensors.items() if value is not None}, about)

    for bad, message in {
        b"": "safetensors format",
        safetensors.numpy.save(streams): "with the metadata `splats`",
        _with(data, version=2): "of version 1",
        _with(data, unit=None): "must say its unit and steps",
        _with(data, extra=1): "must say its unit and steps",
        _with(data, unit=-1): "unit must be a number",
        _with(data, shape_step="x"): "shape_step must be a number",
        saved(**{**streams, "opacity": others["opacity"]}): "as many Gaussians as each other",
        saved(**{**streams, "positions": others["positions"]}): "must have at most 20 occupied cells, not 21",
        saved(**{**streams, "color": None}): "must hold positions, opacity, size, shape, color",
        saved(**streams, sh_2=streams["color"]): "whole sh degrees",
        saved(**{**streams, "color": streams["color"].astype(np.float32)}): "must be rows of bytes",
    }.items():
        with pytest.raises(ValueError, match=message):
            decode_splats(bad)


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """The file with some bytes changed, or cut, or both."""
    broken = bytearray(data)
    for _ in range(random.integers(1, 6)):
        broken[random.integers(0, len(broken))] = random.integers(0, 256)
    return bytes(broken[: random.integers(0, len(broken))] if random.random() < 0.2 else broken)


def test_hostile_files_are_refused_in_one_sentence():
    random = np.random.default_rng(0)
    whole = [encode_splats(cloud(30, degree)) for degree in (0, 1)]
    refused = 0
    for case in range(HOSTILE_CASES):
        try:
            decode_splats(damaged(whole[case % 2], random))
        except ValueError as error:
            assert str(error).endswith(".") and "\n" not in str(error), str(error)
            refused += 1
    assert refused > 0.95 * HOSTILE_CASES
