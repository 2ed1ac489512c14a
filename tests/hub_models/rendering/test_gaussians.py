"""The plain splats that methods and files share."""

import pytest
import torch

from pocket_diffusers.hub_models.rendering.gaussians import Gaussians


def cloud(count: int, degree: int = 0, seed: int = 0) -> Gaussians:
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=draw),
        torch.randn(count, 3, generator=draw) - 3,
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw),
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw),
    )


def test_wrong_shapes_are_refused_by_name():
    good = cloud(5).tensors()
    for name, value in good.items():
        with pytest.raises(ValueError, match=rf"^{name} must (be|hold) "):
            Gaussians(**{**good, name: value[..., :2] if name != "opacity_logits" else value[:2]})
    with pytest.raises(ValueError, match="1, 4, 9 or 16 coefficients a channel, not 5"):
        Gaussians(**{**good, "sh": torch.zeros(5, 5, 3)})


def test_selection_and_concatenation_are_inverse():
    whole = cloud(9, 2)
    again = Gaussians.concatenate([whole.select(slice(0, 4)), whole.select(torch.arange(4, 9))])
    assert all(torch.equal(value, again.tensors()[name]) for name, value in whole.tensors().items())


def test_sh_degree_is_cut_and_padded():
    whole = cloud(4, 2)
    assert whole.sh_degree == 2 and whole.with_sh_degree(3).sh_degree == 3
    assert torch.equal(whole.with_sh_degree(3).with_sh_degree(2).sh, whole.sh)
    assert torch.equal(whole.with_sh_degree(1).sh, whole.sh[:, :4])


def test_a_value_that_is_not_finite_names_its_gaussian():
    broken = cloud(6)
    broken.means[4, 1] = float("nan")
    with pytest.raises(ValueError, match="means must be finite, but Gaussian 4 "):
        broken.check_finite()
    assert cloud(6).check_finite().sh_degree == 0
    assert len(cloud(0).check_finite()) == 0
