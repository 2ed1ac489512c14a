"""Volume rendering against closed forms of a homogeneous medium and against a loop over rays and bins."""

import math

import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.volume import (
    STOP,
    RayBins,
    SeenAlongRays,
    equiangular_bins,
    light_shares,
    march,
    render_bins,
    stratified,
)

CENTER = (0.5, -0.5, 0.25)


def rays(count: int = 7, seed: int = 0, dtype: torch.dtype = torch.float64):
    draw = torch.Generator().manual_seed(seed)
    origins = torch.tensor(CENTER, dtype=dtype) + 2 * torch.randn(count, 3, generator=draw, dtype=dtype)
    return origins, 1.7 * torch.randn(count, 3, generator=draw, dtype=dtype)


def even_bins(count: int, low: float = 1.0, high: float = 4.0, seed: int | None = None) -> RayBins:
    """Bins of seven rays, of equal length."""
    origins, directions = rays()
    ends = (torch.full((len(origins),), value, dtype=origins.dtype) for value in (low, high))
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return RayBins(origins, directions, *stratified(*ends, count, generator))


def cloud(points: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A field in which everything depends on place and direction."""
    density = (2 * torch.sin(3 * points).sum(-1)).clamp_min(0)
    return density, torch.sigmoid(points + directions)


def fog(density: float, color: tuple[float, float, float] = (0.2, 0.5, 0.9)):
    def field(points: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return points.new_full((len(points),), density), points.new_tensor(color).expand_as(points)

    return field


def by_hand(field, bins: RayBins, occupied: torch.Tensor) -> tuple[list, list, list]:
    colors, depths, opacity = [], [], []
    for ray, (origin, direction) in enumerate(zip(bins.origins, bins.directions, strict=True)):
        length = math.sqrt(float(direction @ direction))
        light, color, depth, opaque = 1.0, torch.zeros(3, dtype=origin.dtype), 0.0, 0.0
        for i, t in enumerate(bins.places[ray].tolist()):
            if not occupied[ray, i]:
                continue
            (density,), (seen,) = field((origin + t * direction)[None], (direction / length)[None])
            alpha = 1 - math.exp(-float(density) * float(bins.edges[ray, i + 1] - bins.edges[ray, i]) * length)
            color, depth, opaque = color + light * alpha * seen, depth + light * alpha * t, opaque + light * alpha
            light *= 1 - alpha
        colors.append(color.tolist())
        depths.append(depth)
        opacity.append(opaque)
    return colors, depths, opacity


def assert_seen(seen: SeenAlongRays, wanted: tuple[list, list, list], **tolerance) -> None:
    for value, numbers in zip((seen.colors, seen.depths, seen.opacity), wanted, strict=True):
        assert_close(value, torch.tensor(numbers, dtype=value.dtype), **tolerance)


def test_rays_see_what_a_loop_sees():
    bins = even_bins(9, seed=3)
    occupied = torch.rand(7, 9, generator=torch.Generator().manual_seed(4)) < 0.7
    seen, shares = render_bins(cloud, bins, occupied)
    assert_seen(seen, by_hand(cloud, bins, occupied), atol=1e-12, rtol=1e-9)
    assert_close(shares.sum(1), seen.opacity)
    assert not shares[~occupied].any() and (shares[occupied] >= 0).all()


def test_without_a_mask_the_field_is_asked_everywhere():
    bins = even_bins(9)
    assert_seen(render_bins(cloud, bins)[0], by_hand(cloud, bins, torch.ones(7, 9)), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("count", [1, 4, 50])
def test_a_homogeneous_medium_lets_light_through_by_beer_s_law_however_it_is_cut(count):
    density, color = 0.3, (0.2, 0.5, 0.9)
    bins = even_bins(count, seed=1)
    seen, _ = render_bins(fog(density, color), bins)
    lengths = 3.0 * bins.directions.norm(dim=-1)
    opaque = 1 - torch.exp(-density * lengths)
    assert_close(seen.opacity, opaque)
    assert_close(seen.colors, opaque[:, None] * torch.tensor(color, dtype=opaque.dtype))


def test_expected_depth_in_a_homogeneous_medium_is_that_of_a_cut_exponential():
    density = 0.3
    bins = even_bins(4000)
    seen, _ = render_bins(fog(density), bins)
    rate = density * bins.directions.norm(dim=-1)  # by t
    wanted = 1.0 + 1 / rate - 3.0 / torch.expm1(3.0 * rate)
    assert_close(seen.expected_depths, wanted, atol=1e-5, rtol=1e-5)
    nothing, _ = render_bins(fog(0.0), bins)
    assert not nothing.expected_depths.any() and not nothing.opacity.any()


def test_shares_have_the_gradients_of_their_definition():
    depths = torch.rand(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(light_shares, depths)
    huge = torch.tensor([[0.5, 1e6, 3.0]], requires_grad=True)
    shares = light_shares(huge)
    shares[0, 1].backward()
    assert_close(shares.detach(), torch.tensor([[1 - math.exp(-0.5), math.exp(-0.5), 0.0]]))
    assert huge.grad.isfinite().all()


def test_gradients_reach_density_and_colour():
    bins = even_bins(6)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    tint = torch.ones((), dtype=torch.float64, requires_grad=True)

    def field(points, directions):
        density, color = cloud(points, directions)
        return scale * density, tint * color

    render_bins(field, bins)[0].colors.sum().backward()
    step = 1e-6
    with torch.no_grad():
        ends = [
            render_bins(lambda p, d, s=s: (s * cloud(p, d)[0], cloud(p, d)[1]), bins)[0].colors.sum()
            for s in (1 - step, 1 + step)
        ]
        total = render_bins(cloud, bins)[0].colors.sum()
    assert_close(scale.grad, (ends[1] - ends[0]) / (2 * step), atol=1e-6, rtol=1e-6)
    assert_close(tint.grad, total)


@pytest.mark.parametrize("block", [1, 4, 100])
def test_a_march_sees_the_same_but_for_the_last_of_the_light(block):
    bins = even_bins(30)

    def occupied(points: torch.Tensor) -> torch.Tensor:
        return points[..., 0] > 0

    whole, _ = render_bins(cloud, bins, occupied(bins.points))
    seen = march(cloud, bins, occupied, block)
    assert_close(seen.colors, whole.colors, atol=STOP, rtol=0)
    assert_close(seen.opacity, whole.opacity, atol=STOP, rtol=0)
    thin = march(fog(0.01), bins, occupied, block)  # so thin that no ray ends early
    exact, _ = render_bins(fog(0.01), bins, occupied(bins.points))
    for value, wanted in zip(vars(thin).values(), vars(exact).values(), strict=True):
        assert_close(value, wanted)


def test_a_march_asks_no_farther_than_light_goes():
    asked = []

    def wall(points: torch.Tensor, directions: torch.Tensor):
        asked.append(len(points))
        return fog(1e4)(points, directions)

    march(wall, even_bins(64), lambda points: torch.ones(points.shape[:-1], dtype=torch.bool), 16)
    assert sum(asked) == 7 * 16


def test_strata_share_the_range_and_hold_one_place_each():
    low, high = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 2.0])
    edges, middles = stratified(low, high, 4)
    assert_close(edges, torch.tensor([[1.0, 1.5, 2.0, 2.5, 3.0], [-2.0, -1.0, 0.0, 1.0, 2.0]]))
    assert_close(middles, torch.tensor([[1.25, 1.75, 2.25, 2.75], [-1.5, -0.5, 0.5, 1.5]]))
    draws = [stratified(low, high, 4, torch.Generator().manual_seed(seed))[1] for seed in (*range(400), 0)]
    assert torch.equal(draws[0], draws[-1]) and not torch.equal(draws[0], draws[1])
    places = torch.stack(draws)
    assert ((places >= edges[:, :-1]) & (places <= edges[:, 1:])).all()
    assert_close(places.mean(0), middles, atol=0.05, rtol=0)


def test_equiangular_bins_look_equally_wide_from_beside_the_ray():
    origins, directions = rays()
    radius, near, far = 1.5, 0.3, 60.0
    bins = equiangular_bins(origins, directions, 12, CENTER, radius, near, far)
    length = directions.norm(dim=-1, keepdim=True)
    assert_close(bins.edges[:, :1] * length, torch.full_like(length, near))
    assert_close(bins.edges[:, -1:] * length, torch.full_like(length, far))
    assert_close(bins.lengths.sum(1), torch.full_like(length[:, 0], far - near))
    unit = directions / length
    middle = ((torch.tensor(CENTER, dtype=unit.dtype) - origins) * unit).sum(-1, keepdim=True)
    angles = torch.atan2(bins.edges * length - middle, torch.full_like(middle, radius))
    steps = angles.diff(dim=1)
    assert_close(steps, steps[:, :1].expand_as(steps))
    assert_close(bins.points, origins[:, None] + bins.places[..., None] * directions[:, None])


def test_parts_of_rays_one_behind_the_other_are_the_whole():
    bins = even_bins(10)
    whole, _ = render_bins(cloud, bins)
    front, behind = (render_bins(cloud, bins.between(*ends))[0] for ends in ((0, 4), (4, 10)))
    for value, wanted in zip(vars(front.before(behind)).values(), vars(whole).values(), strict=True):
        assert_close(value, wanted)
    some, _ = render_bins(cloud, bins.of_rays(torch.tensor([5, 2])))
    assert_close(some.colors, whole.colors[[5, 2]])
