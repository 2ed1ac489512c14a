"""Both forms of the rasteriser against every Gaussian at every pixel in float64."""

import resource
import subprocess
import sys

import naive_rasterizer as naive
import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering import compiled_rasterizer
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.quaternions import rotation_matrices

FORMS = [
    "torch",
    pytest.param(
        "compiled", marks=pytest.mark.skipif(compiled_rasterizer.library() is None, reason="there is no g++ here")
    ),
]
WIDTH, HEIGHT = 37, 29
K = torch.tensor([[30.0, 0, 17.5], [0, 33, 15], [0, 0, 1]])
VIEW = torch.eye(4)
VIEW[:3, :3] = rotation_matrices(torch.tensor([0.98, 0.1, -0.15, 0.05]))
VIEW[:3, 3] = torch.tensor([0.1, -0.2, 3.0])


def scene(count=60, degree=3, seed=0, spread=1.0, size=-2.0, opacity=0.5) -> Gaussians:
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        spread * torch.randn(count, 3, generator=draw),
        size + 0.7 * torch.randn(count, 3, generator=draw),
        torch.randn(count, 4, generator=draw),
        opacity + 2 * torch.randn(count, generator=draw),
        0.4 * torch.randn(count, (degree + 1) ** 2, 3, generator=draw),
    )


def leaf(gaussians: Gaussians) -> Gaussians:
    return Gaussians(**{name: value.clone().requires_grad_() for name, value in gaussians.tensors().items()})


def planes(gaussians, form, antialias=False, near=0.01, offsets=None):
    r = rasterize_gaussians(
        gaussians, VIEW[None], K[None], WIDTH, HEIGHT, antialias=antialias, near=near, offsets=offsets, form=form
    )
    return torch.cat([r.rgb[0], (r.depth * r.alpha), r.alpha])


SCENES = {
    "mixed": scene(),
    "flat color": scene(degree=0, seed=1),
    "opaque layers": scene(200, 1, seed=2, size=-1.2, opacity=5),
    "needles": scene(60, 2, seed=3, size=-3),
    "around the camera": scene(80, 1, seed=4, spread=3),
    "one": scene(1, 3, seed=7, spread=0.1),
}


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients_are_those_of_every_gaussian_at_every_pixel(form, name, antialias):
    ours, truth = leaf(SCENES[name]), leaf(SCENES[name])
    drawn, expected = planes(ours, form, antialias), naive.render(truth, VIEW, K, WIDTH, HEIGHT, antialias)
    assert expected[4].detach().max() > 0.2
    assert_close(drawn.double(), expected, atol=2e-4, rtol=0)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(5), dtype=torch.double)
    (drawn * weights).sum().backward()
    (expected * weights).sum().backward()
    for attribute, value in ours.tensors().items():
        wanted = truth.tensors()[attribute].grad.double()
        error = (value.grad - wanted).norm() / wanted.norm().clamp_min(1e-6)
        assert error < 2e-3, (attribute, float(error))


@pytest.mark.parametrize("form", FORMS)
def test_gradients_match_finite_differences(form):
    base = leaf(scene(12, 1, seed=11, size=-1.5, opacity=0.0))
    weights = torch.randn(5, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3))
    (planes(base, form) * weights).sum().backward()
    step = 1e-5

    def loss(tensors):
        moved = Gaussians(**tensors)
        return (naive.render(moved, VIEW, K, WIDTH, HEIGHT) * weights.double()).sum()

    for name, value in base.tensors().items():
        direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(9), dtype=torch.double)
        ends = []
        for sign in (1, -1):
            tensors = {key: tensor.detach().double() for key, tensor in base.tensors().items()}
            tensors[name] = tensors[name] + sign * step * direction
            ends.append(loss(tensors))
        difference = (ends[0] - ends[1]) / (2 * step)
        slope = (value.grad.double() * direction).sum()
        # A pixel that crosses alpha = 1/255 within the step moves by that much; few do.
        assert_close(slope, difference, rtol=0.02, atol=0.02 * float(value.grad.norm()))


@pytest.mark.parametrize("form", FORMS)
def test_offsets_gather_the_gradient_of_the_centres(form):
    gaussians = leaf(scene())
    offsets = torch.zeros(1, 60, 2, requires_grad=True)
    weights = torch.randn(5, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    (planes(gaussians, form, offsets=offsets) * weights).sum().backward()
    moved = planes(gaussians.detach(), form, offsets=torch.full((1, 60, 2), 1e-3))
    still = planes(gaussians.detach(), form, offsets=torch.full((1, 60, 2), -1e-3))
    difference = ((moved - still).double() * weights).sum() / 2e-3
    assert_close(offsets.grad.double().sum(), difference, rtol=0.03, atol=0.05)


@pytest.mark.parametrize("form", FORMS)
def test_background_shows_where_the_scene_lets_it_through(form):
    background = torch.tensor([0.2, 0.9, 0.4])
    arguments = (scene(), VIEW[None], K[None], WIDTH, HEIGHT)
    over_black = rasterize_gaussians(*arguments, form=form)
    over = rasterize_gaussians(*arguments, background=background, form=form)
    assert_close(over.rgb, over_black.rgb + (1 - over_black.alpha)[:, None] * background[:, None, None])


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_of_cameras_is_each_camera_alone(form):
    other = VIEW.clone()
    other[0, 3] += 0.4
    views, Ks = torch.stack([VIEW, other]), torch.stack([K, K * torch.tensor([[0.8], [0.8], [1.0]])])
    both = rasterize_gaussians(scene(), views, Ks, WIDTH, HEIGHT, form=form)
    for index in range(2):
        alone = rasterize_gaussians(scene(), views[index, None], Ks[index, None], WIDTH, HEIGHT, form=form)
        assert torch.equal(both.rgb[index], alone.rgb[0]) and torch.equal(both.depth[index], alone.depth[0])


@pytest.mark.parametrize("form", FORMS)
def test_depth_is_that_of_an_opaque_wall(form):
    wall = Gaussians(
        torch.tensor([[0.0, 0, 2.5]]), torch.full((1, 3), 0.5), torch.tensor([[1.0, 0, 0, 0]]),
        torch.tensor([8.0]), torch.zeros(1, 1, 3),
    )  # fmt: skip
    drawn = rasterize_gaussians(wall, torch.eye(4)[None], K[None], WIDTH, HEIGHT, form=form)
    assert drawn.depth[0, 15, 17] == pytest.approx(2.5) and drawn.alpha[0, 15, 17] == pytest.approx(0.999, abs=1e-3)
    empty = rasterize_gaussians(wall, torch.eye(4)[None], K[None], WIDTH, HEIGHT, near=3.0, form=form)
    assert not empty.alpha.any() and not empty.depth.any()


@pytest.mark.parametrize("form", FORMS)
def test_the_number_of_threads_changes_nothing(form):
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            gaussians = leaf(scene(300, 2, seed=8))
            drawn = planes(gaussians, form)
            drawn.square().sum().backward()
            results.append([drawn.detach(), *(value.grad for value in gaussians.tensors().values())])
    finally:
        torch.set_num_threads(before)
    for one, three in zip(*results, strict=True):
        if form == "compiled":
            assert torch.equal(one, three)
        else:
            assert_close(one, three, rtol=1e-4, atol=1e-5)


def test_no_gaussian_at_all_gives_the_background():
    empty = scene().select(slice(0, 0))
    for form in ("torch", "auto"):
        drawn = rasterize_gaussians(empty, VIEW[None], K[None], 5, 4, background=torch.ones(3), form=form)
        assert bool((drawn.rgb == 1).all()) and not drawn.alpha.any()


def test_values_that_are_not_finite_are_left_out_of_the_picture():
    broken = scene()
    broken.means[3] = float("nan")
    broken.log_scales[4] = float("inf")
    kept = [index for index in range(60) if index not in (3, 4)]
    for form in ("torch", "auto"):
        assert_close(planes(broken, form), planes(broken.select(torch.tensor(kept)), form))


BAD = {
    "width and height must make 1 to": {"width": 0},
    "near must be above 0, not 0": {"near": 0},
    r"viewmats must be \[1, 4, 4\]": {"viewmats": torch.eye(3)[None]},
    r"offsets must be \[1, 60, 2\]": {"offsets": torch.zeros(60, 2)},
    "Ks must hold positive focal lengths and no skew": {"Ks": K[None] + torch.ones(1, 3, 3).triu(1)},
    "viewmats must be finite": {"viewmats": torch.full((1, 4, 4), float("nan"))},
    "form must be one of auto, gsplat, compiled, torch, not 'gpu'": {"form": "gpu"},
    "form must be one that this machine has, not 'gsplat'": {"form": "gsplat"},
}  # fmt: skip


@pytest.mark.parametrize("sentence", BAD)
def test_bad_input_gets_one_sentence(sentence):
    given = {"viewmats": VIEW[None], "Ks": K[None], "width": 8, "height": 8, **BAD[sentence]}
    with pytest.raises(ValueError, match=sentence):
        rasterize_gaussians(scene(), **given)


@pytest.mark.parametrize("form", FORMS)
def test_memory_is_bounded_by_tiles(form):
    """20,000 Gaussians at 512 x 512 pixels would take 21 GB a plane if each met each pixel."""
    code = f"""
import resource, torch
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
draw = torch.Generator().manual_seed(0)
rand = lambda *shape: torch.randn(*shape, generator=draw)
values = [rand(20000, 3), rand(20000, 3) / 2 - 5, rand(20000, 4), rand(20000), rand(20000, 1, 3)]
view = torch.eye(4); view[2, 3] = 4
K = torch.tensor([[500.0, 0, 256], [0, 500, 256], [0, 0, 1]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
gaussians = Gaussians(*(value.requires_grad_() for value in values))
drawn = rasterize_gaussians(gaussians, view[None], K[None], 512, 512, form={form!r})
drawn.rgb.mean().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert resource.RUSAGE_SELF == 0 and int(result.stdout) < 400, result.stdout


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: run on a machine with an NVIDIA GPU")
@pytest.mark.parametrize("form", ["torch", "gsplat"])
def test_cuda_gives_what_the_cpu_gives(form):
    if form == "gsplat":
        pytest.importorskip("gsplat")
    ours, truth = leaf(scene(200, 3, seed=6).to("cuda")), leaf(scene(200, 3, seed=6))
    cuda = rasterize_gaussians(ours, VIEW[None].cuda(), K[None].cuda(), WIDTH, HEIGHT, form=form)
    drawn = torch.cat([cuda.rgb[0], cuda.depth * cuda.alpha, cuda.alpha])
    expected = naive.render(truth, VIEW, K, WIDTH, HEIGHT)
    assert_close(drawn.double().cpu(), expected, atol=1e-3, rtol=0)
    drawn.square().sum().backward()
    expected.square().sum().backward()
    for name, value in ours.tensors().items():
        wanted = truth.tensors()[name].grad
        assert (value.grad.cpu() - wanted).norm() / wanted.norm() < 1e-2, name
