"""`.splat`: values of rows packed by hand."""

import math
import struct

import pytest
import torch

from pocket_diffusers.hub_models.rendering.splat_files import splat, spz


def packed(position=(1, 2, 3), scale=(0.5, 1, 2), color=(0, 128, 255), alpha=51, rotation=(255, 128, 128, 128)):
    return struct.pack("<6f8B", *position, *scale, *color, alpha, *rotation)


def test_values_of_a_row():
    read = splat.read(packed())
    assert read.means.tolist() == [[1, 2, 3]] and read.sh.shape == (1, 1, 3)
    torch.testing.assert_close(read.log_scales[0], torch.tensor([math.log(0.5), 0, math.log(2)]))
    torch.testing.assert_close(read.rgb[0], torch.tensor([0, 128 / 255, 1]))
    torch.testing.assert_close(read.opacity_logits.sigmoid(), torch.tensor([0.2]))
    assert read.quaternions.tolist() == [[1, 0, 0, 0]], "no rotation stays none"


def test_opacities_at_the_limits_are_finite():
    read = splat.read(packed(alpha=0) + packed(alpha=255))
    assert read.opacity_logits.sigmoid().tolist() == pytest.approx([1e-6, 1 - 1e-6], abs=1e-7)


def test_the_four_gaussians_are_those_of_the_spz_file(public):
    mine = splat.read(public("splat_transform_fixtures/minimal.splat"))
    other = spz.read(public("splat_transform_fixtures/minimal-v4.spz"))
    torch.testing.assert_close(mine.means, other.means)
    torch.testing.assert_close(mine.log_scales, other.log_scales, rtol=0, atol=1 / 32)
    torch.testing.assert_close(mine.rgb, other.rgb, rtol=0, atol=0.004)
    torch.testing.assert_close(mine.opacity_logits, other.opacity_logits)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds none"),
        (packed()[:-1], "multiple of 32 bytes long, not 31"),
        (packed(position=(0, math.nan, 0)), "means must be finite"),
        (packed(scale=(1, 0, 1)), "log_scales must be finite"),
        (packed(scale=(1, -1, 1)), "log_scales must be finite"),
        (packed(rotation=(128,) * 4), "quaternions must not be 0"),
    ],
)
def test_each_fault_has_its_sentence(data, message):
    with pytest.raises(ValueError, match=message):
        splat.read(data)


def test_hostile_files_are_refused_or_read(refuses):
    assert refuses(splat.read, [packed() * 4, packed()]) > 200
