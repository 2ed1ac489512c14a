"""Flipped axes: a Gaussian looks the same from the flipped camera."""

from itertools import product

import pytest
import torch

from pocket_diffusers.hub_models.rendering.spherical_harmonics import basis
from pocket_diffusers.hub_models.rendering.splat_files.axes import AxisFlips

FRAMES = ["".join(letters) for letters in product("LR", "UD", "FB")]


def rotation(q: torch.Tensor) -> torch.Tensor:
    w, x, y, z = torch.nn.functional.normalize(q, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


@pytest.mark.parametrize("frame", FRAMES)
def test_shape_and_colour_are_seen_from_the_flipped_side(frame):
    draw = torch.Generator().manual_seed(0)
    flips = AxisFlips.between(frame)
    mirror = torch.diag(torch.tensor([1.0 if letter in "RDF" else -1.0 for letter in frame]))
    assert torch.equal(torch.diag(torch.from_numpy(flips.position)), mirror)

    directions = torch.nn.functional.normalize(torch.randn(50, 3, generator=draw), dim=1)
    sh = torch.randn(15, 3, generator=draw)
    seen = basis(directions, 3)[:, 1:] @ sh
    flipped = basis(directions @ mirror, 3)[:, 1:] @ (torch.from_numpy(flips.sh)[:, None] * sh)
    torch.testing.assert_close(flipped, seen)

    q, scales = torch.randn(20, 4, generator=draw), torch.rand(20, 3, generator=draw)
    covariance = lambda q: rotation(q) @ torch.diag_embed(scales**2) @ rotation(q).mT  # noqa: E731
    torch.testing.assert_close(covariance(q * torch.from_numpy(flips.quaternion)), mirror @ covariance(q) @ mirror)


def test_signs_that_files_document():
    to_rub, to_luf = AxisFlips.between("RUB"), AxisFlips.between("LUF")
    assert to_rub.sh.tolist() == [-1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1]
    assert to_luf.sh.tolist() == [-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1]
    assert to_rub.quaternion.tolist() == [1, 1, -1, -1] and to_luf.quaternion.tolist() == [1, -1, -1, 1]
