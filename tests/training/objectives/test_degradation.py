import numpy as np
import pytest
import torch
from scipy import ndimage

from pocket_diffusers.training.objectives.degradation import DEGRADATIONS, MAX_BLUR, MAX_NOISE, add_noise, blur, degrade


@pytest.fixture
def pictures():
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_chance_0_leaves_pictures_and_chance_1_spoils_all(pictures):
    assert torch.equal(degrade(pictures, generator(), chance=0.0), pictures)
    spoilt = degrade(pictures, generator(), chance=1.0)
    assert all((a - b).abs().mean() > 0.01 for a, b in zip(spoilt, pictures, strict=True))
    assert spoilt.min() >= 0 and spoilt.max() <= 1


def test_the_same_seed_spoils_the_same_way_and_leaves_its_input(pictures):
    before = pictures.clone()
    assert torch.equal(degrade(pictures, generator(3)), degrade(pictures, generator(3)))
    assert not torch.equal(degrade(pictures, generator(3)), degrade(pictures, generator(4)))
    assert torch.equal(pictures, before)


def test_it_works_inside_autocast(pictures):
    with torch.autocast("cpu", torch.bfloat16):
        inside = degrade(pictures, generator(), chance=1.0)
    assert torch.equal(inside, degrade(pictures, generator(), chance=1.0))


def test_blur_is_a_gaussian_of_the_promised_width():
    picture = torch.rand(2, 3, 64, 64, generator=generator())
    blurred = blur(picture, torch.tensor([0.0, 1.0]))
    for row, sigma in enumerate((0.3, MAX_BLUR)):
        wanted = ndimage.gaussian_filter(picture[row].double().numpy(), (0, sigma, sigma), mode="mirror", radius=4)
        assert np.abs(blurred[row].numpy() - wanted).max() < 1e-5


def test_noise_has_the_promised_deviation(pictures):
    noise = torch.randn(pictures.shape, generator=generator())
    added = add_noise(pictures, torch.full((6,), 0.5), noise) - pictures
    assert added.std() == pytest.approx(0.5 * MAX_NOISE, rel=0.05)


@pytest.mark.parametrize("name", ["color_shift", "blur", "resample", "jpeg"])
def test_stronger_is_further_away(name):
    ramp = torch.linspace(0, 1, 64)
    picture = torch.stack(
        [ramp.expand(64, 64), (torch.arange(64) // 4 % 2).float().expand(64, 64), ramp.expand(64, 64).T]
    )
    spoilt = DEGRADATIONS[name](picture.expand(2, 3, 64, 64), torch.tensor([0.6, 1.0]))
    near, far = (spoilt - picture).square().mean((1, 2, 3)).tolist()
    assert 0 < near < far
    assert spoilt.shape == (2, 3, 64, 64)
