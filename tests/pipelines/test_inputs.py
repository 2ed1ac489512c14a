"""Inputs are refused with the argument, the value and what is allowed."""

import math
from dataclasses import replace

import pytest
import torch

from pocket_diffusers.pipelines.inputs import PosedImages, check_choice, check_count, check_number, check_side


def posed(views: int = 3, height: int = 4, width: int = 5) -> PosedImages:
    angles = torch.linspace(0, 2, views)
    viewmats = torch.eye(4).repeat(views, 1, 1)
    viewmats[:, 0, 0] = viewmats[:, 2, 2] = angles.cos()
    viewmats[:, 0, 2] = angles.sin()
    viewmats[:, 2, 0] = -angles.sin()
    viewmats[:, :3, 3] = torch.tensor([0.3, -1.0, 4.0])
    Ks = torch.tensor([[50.0, 0, 2.5], [0, 50, 2], [0, 0, 1]]).repeat(views, 1, 1)
    return PosedImages(
        images=torch.rand(views, 3, height, width),
        viewmats=viewmats,
        Ks=Ks,
        depths=torch.rand(views, height, width),
        masks=torch.rand(views, height, width) > 0.5,
        times=angles,
    )


def test_posed_images_select_and_move():
    views = posed()
    assert (len(views), views.height, views.width) == (3, 4, 5)
    picked = views.select([2, 0])
    assert torch.equal(picked.images, views.images[[2, 0]])
    assert torch.equal(picked.masks, views.masks[[2, 0]])
    assert torch.equal(views.select(slice(1, None)).times, views.times[1:])
    assert views.to("cpu").Ks.device.type == "cpu"
    bare = PosedImages(views.images, views.viewmats, views.Ks)
    assert bare.select([0]).depths is None


def changed(tensor: torch.Tensor, index: tuple, value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("images", lambda x: x[:, 0], r"images must be \[views, 3"),
        ("images", lambda x: x[:0], "at least one view"),
        ("images", lambda x: (x * 255).to(torch.uint8), "images must be floating point, not torch.uint8"),
        ("images", lambda x: x.numpy(), "must be a tensor, not ndarray"),
        ("images", lambda x: x * 255, r"images must lie in \[0, 1\]"),
        ("images", lambda x: changed(x, (0, 0, 0, 0), math.nan), "images must be finite"),
        ("viewmats", lambda x: x[:2], r"viewmats must be \[3, 4, 4\], not \[2, 4, 4\]"),
        ("viewmats", lambda x: x * 2, r"viewmats\[0\] is no world-to-camera"),
        ("viewmats", lambda x: changed(x, (1, 1, 1), -1.0), r"viewmats\[1\]"),  # a reflection
        ("viewmats", lambda x: x.mT, r"viewmats\[0\]"),  # translation in the last row
        ("Ks", lambda x: changed(x, (2, 0, 0), 0.0), r"Ks\[2\]"),
        ("Ks", lambda x: x.mT, r"Ks\[0\]"),
        ("depths", lambda x: -x, "depths must not be negative"),
        ("depths", lambda x: x[:, None], "depths must be"),
        ("masks", lambda x: x.float(), "masks must be boolean"),
        ("times", lambda x: x[0], "times must be"),
        ("times", lambda x: changed(x, (1,), math.inf), "times must be finite"),
    ],
)
def test_bad_posed_images(name, change, message):
    views = posed()
    with pytest.raises(ValueError, match=message):
        replace(views, **{name: change(getattr(views, name))})


def test_checks_pass_good_values():
    assert check_count("steps", torch.tensor(4)) == 4
    assert check_number("scale", 0, low=0) == 0.0
    assert check_choice("mode", "a", ("a", "b")) == "a"
    assert check_side("height", 64, 16) == 64


@pytest.mark.parametrize("value", [0, -1, 2.5, "3", None, True, math.nan])
def test_counts_are_whole_and_positive(value):
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, not"):
        check_count("steps", value)


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan, math.inf, "0.5", None, True, [1]])
def test_numbers_lie_in_their_range(value):
    with pytest.raises(ValueError, match="scale must be a number from 0 to 1, not"):
        check_number("scale", value, low=0, high=1)


@pytest.mark.parametrize(("value", "nearest"), [(65, "64 or 80"), (5, "16"), (79, "64 or 80")])
def test_sides_name_the_nearest(value, nearest):
    with pytest.raises(
        ValueError, match=f"height must be a multiple of 16 pixels, not {value}: the nearest is {nearest}"
    ):
        check_side("height", value, 16)


def test_choices_are_listed():
    with pytest.raises(ValueError, match="mode must be one of a, b, not 'c'"):
        check_choice("mode", "c", ("a", "b"))
