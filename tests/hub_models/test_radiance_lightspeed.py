"""What LightSpeed's teacher is and shows: its sizes, what it says of a place, and pictures of it."""

import json
import math

import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.radiance_lightspeed import LEAST_OPTICAL_DEPTH, LightSpeedRadianceField
from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.hub_models.rendering.contraction import contract
from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays
from pocket_diffusers.hub_models.rendering.spherical_harmonics import basis
from pocket_diffusers.hub_models.rendering.volume import STOP, render_bins

TINY = {
    "levels": 3, "features": 2, "log2_size": 8, "base_resolution": 2, "max_resolution": 8, "width": 8,
    "color_layers": 1, "sh_degree": 2, "bins": 24, "occupancy_resolution": 8, "center": (0.5, -0.25, 1.0),
    "radius": 2.0,
}  # fmt: skip


def make(**changes) -> LightSpeedRadianceField:
    """One in which everything has an influence."""
    torch.manual_seed(0)
    made = LightSpeedRadianceField(**{**TINY, **changes}).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.5)
    return made


def places(count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    points, directions = torch.randn(2, count, 3, generator=torch.Generator().manual_seed(1))
    return 3 * points, torch.nn.functional.normalize(directions, dim=-1)


def views(side: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    return orbit((0.5, -0.25, 1.0), 5.0, 2), intrinsics(50.0, side, side).expand(2, 3, 3)


def count(preset: str) -> int:
    with torch.device("meta"):
        made = LightSpeedRadianceField.from_preset(preset)
    return sum(parameter.numel() for parameter in made.parameters())


def test_presets_have_the_sizes_of_their_tables_and_networks():
    def rows(levels, log2_size, base, finest):
        growth = (finest / base) ** (1 / (levels - 1))
        return sum(min(2**log2_size, (int(base * growth**level + 1e-6) + 1) ** 3) for level in range(levels))

    paper = (32 * 64 + 64) + (64 * 16 + 16) + (32 * 64 + 64) + (64 * 64 + 64) + (64 * 3 + 3)
    assert count("paper") == 2 * rows(16, 19, 16, 2048) + paper
    nano = (16 * 32 + 32) + (32 * 16 + 16) + (32 * 32 + 32) + (32 * 3 + 3)
    assert count("nano") == 2 * rows(8, 15, 8, 512) + nano < 4_000_000


@torch.no_grad()
def test_a_place_is_what_its_features_and_the_direction_say():
    made, (points, directions) = make(), places()
    features = made.density_network(made.grid(contract(points, TINY["center"], 2.0)))
    told = torch.cat([features, basis(directions, 2)], 1)
    distance = (points - torch.tensor(TINY["center"])).norm(dim=1) / 2
    density, color = made(points, directions)
    assert_close(density, features[:, 0].exp() / (2 * distance.clamp_min(1).square()))
    assert_close(color, made.color_network(told).sigmoid())
    assert (distance > 1).any() and (distance < 1).any()


def test_a_bin_at_the_grid_s_threshold_takes_hardly_any_light():
    made = make(bins=100)
    origins, directions = torch.tensor([[0.5, -0.25, -3.0]]), torch.tensor([[0.0, 0.0, 2.0]])
    with torch.no_grad():  # the same density by radian everywhere
        for parameter in made.density_network.parameters():
            parameter.zero_()
        made.density_network[-1].bias[0] = math.log(made.occupancy.threshold)
    bins = made.bins(origins, directions)
    _, shares = render_bins(made, bins)
    depths = -torch.log1p(-shares.cumsum(1)).double().diff(dim=1)
    span = float((bins.edges[0, -1] * 2 - 4) / 2)  # through the middle of the ball, from beyond it
    wanted = LEAST_OPTICAL_DEPTH / math.pi * (math.atan(span) - math.atan((0.1 - 4) / 2))
    inside = (bins.points - torch.tensor(TINY["center"])).norm(dim=-1)[0, 1:] < 2
    assert inside.sum() > 40
    assert (depths[0, inside] > 0.99 * wanted).all() and (depths[0, inside] < 2 * wanted).all()


@torch.no_grad()
def test_a_picture_is_what_its_rays_see():
    made, (viewmats, Ks) = make(), views()
    images, depths = made.render(viewmats, Ks, 12, 12)
    origins, directions = pixel_rays(viewmats, Ks, 12, 12)
    seen, _ = render_bins(made, made.bins(origins.reshape(-1, 3), directions.reshape(-1, 3)))
    assert_close(images, seen.colors.view(2, 12, 12, 3).movedim(-1, 1), atol=2 * STOP, rtol=0)
    assert images.shape == (2, 3, 12, 12) and 0 <= images.min() < images.max() <= 1
    assert_close(depths, seen.expected_depths.view(2, 12, 12), atol=0.2, rtol=0.02)
    again, _ = made.render(viewmats[1:], Ks[1:], 12, 12)
    assert_close(again, images[1:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rays_skip_what_the_grid_calls_empty():
    made, (viewmats, Ks) = make(), views()
    made.occupancy.densities.zero_()
    images, depths = made.render(viewmats, Ks, 12, 12)
    assert not images.any() and not depths.any()
    made.watch_occupancy(8**3, torch.Generator().manual_seed(0))
    assert 0 < made.occupied(torch.cat([places(500)[0]])).float().mean() <= 1


def test_saved_weights_and_what_is_empty_come_back(tmp_path):
    made, (viewmats, Ks) = make(), views()
    made.watch_occupancy(8**3, torch.Generator().manual_seed(0))
    made.save_pretrained(tmp_path)
    loaded = LightSpeedRadianceField.from_pretrained(tmp_path)
    for name, value in made.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert_close(loaded.render(viewmats, Ks, 12, 12), made.render(viewmats, Ks, 12, 12), atol=1e-5, rtol=1e-5)
    config = json.loads((tmp_path / "config.json").read_text())
    assert LightSpeedRadianceField.from_config(config).to_json_string() == made.to_json_string()
