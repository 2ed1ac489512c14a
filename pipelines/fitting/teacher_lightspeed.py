"""LightSpeed's teacher: a radiance field fitted to real pictures, and the pseudo pictures that it makes.

A light field needs thousands of pictures, of which a capture has few. As in MobileR2L (arXiv 2212.08057) a teacher that
learns from few makes the others.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ...hub_models.radiance_lightspeed import LightSpeedRadianceField
from ...hub_models.rendering.cameras import camera_centres, look_at
from ...hub_models.rendering.pixel_rays import rays_through
from ...hub_models.rendering.volume import RayBins, render_bins
from ..inputs import PosedImages, check_choice, check_count, check_number
from ..scene_cameras import Cameras, Circle
from .checkpoint import digest_of_tensors
from .loop import Batches, FitSettings, fit

BALL_SHARE = 0.5  # of the cameras' distance is the radius of the ball in which details are fine
NEAR_SHARE = 0.5  # of the nearest camera's distance from the middle is free of the scene, where nothing else is known
CELLS_SHARE = 0.25  # of the occupancy grid is looked at each time
WEIGHT_DECAY = 1e-6  # of the networks, as in Instant-NGP
WIDER = 1.1  # forward-facing pseudo cameras' boxes than those of the real ones
AZIMUTH = math.radians(178)  # of pseudo cameras all around


@dataclass(frozen=True)
class SceneBall:
    """Where the details of a scene are, in scene units.

    Attributes:
        center, radius: of a ball around what cameras look at; outside, the farther a thing is, the coarser it is seen.
        near: distance from every camera before which there is nothing.
    """

    center: tuple[float, float, float]
    radius: float
    near: float

    @classmethod
    def all_around(cls, posed: PosedImages, nearest: float | None = None) -> Self:
        """Of cameras around something, about the point that lies nearest to all their axes.

        Args:
            posed: pictures with cameras.
            nearest: the scene's smallest depth from any camera, if it is known.
        """
        circle = Circle.of_cameras(posed.viewmats)
        away = camera_centres(posed.viewmats) - posed.viewmats.new_tensor(circle.center)
        near = NEAR_SHARE * float(away.norm(dim=1).min()) if nearest is None else nearest
        return cls(circle.center, BALL_SHARE * circle.distance, near)

    @classmethod
    def forward_facing(cls, posed: PosedImages, nearest: float) -> Self:
        """Of cameras side by side, about their middle, so that bins of rays are even in disparity.

        Args:
            posed: pictures with cameras.
            nearest: the scene's smallest depth from any camera.
        """
        return cls(tuple(camera_centres(posed.viewmats).mean(0).tolist()), nearest, nearest)


@dataclass(frozen=True, kw_only=True)
class TeacherFit:
    """How a teacher is fitted.

    Attributes:
        steps: of the fit.
        rays: random ones of a step, at most.
        samples: bins in occupied space that a step looks at, at most; beyond, it leaves rays out.
        learning_rate: of everything, as in Instant-NGP.
        depth_weight: of known depths in the loss.
        occupancy_every: steps between looks at which space is empty.
        seed: of everything random.
        preset: of `LightSpeedRadianceField`.
        options: other arguments of it, which come before all else.
        save_every: steps between checkpoints.
    """

    steps: int = 1000
    rays: int = 2048
    samples: int = 32_768
    learning_rate: float = 1e-2
    depth_weight: float = 0.1
    occupancy_every: int = 16
    seed: int = 0
    preset: str = "nano"
    options: Mapping[str, Any] = field(default_factory=dict)
    save_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "rays", "samples", "occupancy_every", "save_every"):
            check_count(name, getattr(self, name))
        check_number("learning_rate", self.learning_rate, 0)
        check_number("depth_weight", self.depth_weight, 0)
        check_choice("preset", self.preset, tuple(LightSpeedRadianceField.presets))


class RayBatch(NamedTuple):
    """Rays through pixels, what they saw [rays, 3], and the pixels' depth [rays], 0 where it is unknown."""

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]
    colors: Float[Tensor, "rays 3"]
    depths: Float[Tensor, " rays"]


class RadianceFit:
    """The objective of a teacher: random rays a step.

    Args:
        teacher: what is fitted.
        posed: to what.
        how: settings.
    """

    def __init__(self, teacher: LightSpeedRadianceField, posed: PosedImages, how: TeacherFit) -> None:
        self.parts: dict[str, nn.Module] = {"teacher": teacher}
        self.teacher, self.posed, self.how = teacher, posed, how

    def batches(self) -> Batches:
        """Pixels of all pictures, each as likely as any other."""

        def from_step(start: int, rank: int, world: int) -> Iterator[RayBatch]:
            for step in count(start):
                generator = torch.Generator().manual_seed((self.how.seed * 1_000_003 + step) * world + rank)
                yield self._drawn(generator)

        return from_step

    def _drawn(self, generator: torch.Generator) -> RayBatch:
        posed, pixels = self.posed, self.posed.height * self.posed.width
        chosen = torch.randint(len(posed) * pixels, (self.how.rays,), generator=generator).to(posed.images.device)
        view, row, column = chosen // pixels, chosen % pixels // posed.width, chosen % posed.width
        places = torch.stack([column, row], 1) + 0.5
        rays = rays_through(posed.viewmats[view], posed.Ks[view], places.to(posed.Ks))
        colors = posed.images[view, :, row, column]
        depths = torch.zeros_like(colors[:, 0]) if posed.depths is None else posed.depths[view, row, column]
        return RayBatch(*rays, colors, depths)

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        networks = [*self.teacher.density_network.parameters(), *self.teacher.color_network.parameters()]
        groups = [{"params": [self.teacher.grid.table]}, {"params": networks, "weight_decay": WEIGHT_DECAY}]
        return torch.optim.Adam(groups, lr=self.how.learning_rate, betas=(0.9, 0.99), eps=1e-15, fused=True)

    def loss(self, part: str, batch: RayBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Mean squared error of the colours, and `misplaced_light`."""
        bins = self.teacher.bins(batch.origins, batch.directions, generator)
        occupied = self.teacher.occupied(bins.points)
        rays = max(1, int((occupied.sum(1).cumsum(0) <= self.how.samples).sum()))
        bins = bins.of_rays(slice(rays))
        seen, shares = render_bins(self.parts[part], bins, occupied[:rays])
        error = (seen.colors - batch.colors[:rays]).square().mean()
        misplaced = misplaced_light(bins, shares, batch.depths[:rays])
        return error + self.how.depth_weight * misplaced, {
            "psnr": -10 * math.log10(max(float(error.detach()), 1e-10)),
            "misplaced": float(misplaced.detach()),
            "rays": float(rays),
        }

    def after_step(self, part: str, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Looks at which space has become empty."""
        if (step + 1) % self.how.occupancy_every == 0:
            cells = math.ceil(CELLS_SHARE * self.teacher.occupancy.densities.numel())
            self.teacher.watch_occupancy(cells, torch.Generator().manual_seed(step))

    def preview(self, modules: dict[str, nn.Module]) -> Image.Image:
        """The first view and its fit, left and right."""
        posed = self.posed
        drawn, _ = self.teacher.render(posed.viewmats[:1], posed.Ks[:1], posed.height, posed.width)
        both = torch.cat([posed.images[:1], drawn], 3)[0]
        return Image.fromarray((both.movedim(0, -1) * 255).round().byte().cpu().numpy())


def misplaced_light(
    bins: RayBins, shares: Float[Tensor, "rays bins"], depths: Float[Tensor, " rays"]
) -> Float[Tensor, ""]:
    """How far from the known depth of its pixel light comes, as a share of the larger depth; light from nowhere is 1.

    Few views do not tell a surface from fog before each camera; known depths do.

    Args:
        bins: of rays whose directions have length 1 along the camera's z axis.
        shares: of the light from each bin.
        depths: 0 where they are unknown; such rays count as 0.
    """
    wanted = depths[:, None]
    away = (bins.places - wanted).abs() / torch.maximum(bins.places, wanted)
    return ((1 - shares.sum(1) + (shares * away).sum(1)) * (depths > 0)).mean()


def new_teacher(ball: SceneBall, how: TeacherFit) -> LightSpeedRadianceField:
    """A teacher with new weights.

    Args:
        ball: where the scene is.
        how: settings.
    """
    torch.manual_seed(how.seed)
    return LightSpeedRadianceField.from_preset(how.preset, **{**asdict(ball), **how.options})


def fit_teacher(
    posed: PosedImages,
    ball: SceneBall,
    how: TeacherFit,
    output: str | Path | None = None,
    **running: Any,
) -> LightSpeedRadianceField:
    """Fits a teacher to pictures; depths of theirs that are known help, and few views need them.

    Args:
        posed: pictures with cameras.
        ball: where the scene is.
        how: settings.
        output: folder of checkpoints, metrics and previews; None keeps none.
        running: `resume` and `progress` of the loop's `fit`.

    Raises:
        ValueError: a damaged checkpoint, or one made with other settings.
        OSError: the folder cannot be written to.
    """
    teacher = new_teacher(ball, how).to(posed.images.device)
    identity = {name: value for name, value in asdict(how).items() if name not in ("steps", "seed", "save_every")}
    given = [posed.images, posed.viewmats, posed.Ks, *([] if posed.depths is None else [posed.depths])]
    settings = FitSettings(
        steps=how.steps, seed=how.seed, schedule="cosine", max_grad_norm=None, save_every=how.save_every,
        identity={**identity, "ball": asdict(ball), "views": len(posed), "digest": digest_of_tensors(given)},
    )  # fmt: skip
    objective = RadianceFit(teacher, posed, how)
    fit(objective, objective.batches(), settings, output, **running)
    return teacher


def pseudo_views(teacher: LightSpeedRadianceField, cameras: Cameras) -> PosedImages:
    """Pictures and depths that a teacher makes, as a capture to learn from."""
    images, depths = teacher.render(cameras.viewmats, cameras.Ks, cameras.height, cameras.width)
    return PosedImages(images, cameras.viewmats, cameras.Ks, depths=depths)


def cameras_all_around(posed: PosedImages, views: int, seed: int = 0) -> Cameras:
    """Random cameras around what those of pictures look at, as MobileR2L's public code draws them.

    Azimuths are uniform; elevations are normal, drawn again until they lie in the range of the real cameras, about its
    middle and with half its extent as deviation; distances are uniform in the range of the real ones.

    Args:
        posed: pictures with cameras.
        views: how many.
        seed: of the draw; the same cameras for the same seed.
    """
    check_count("views", views)
    generator = torch.Generator().manual_seed(seed)
    center = posed.viewmats.new_tensor(Circle.of_cameras(posed.viewmats).center)
    away, up = camera_centres(posed.viewmats) - center, _mean_up(posed)
    distances = away.norm(dim=1)
    elevations = (away @ up / distances).clamp(-1, 1).asin()
    elevation = _normal_within(float(elevations.min()), float(elevations.max()), views, generator)
    azimuth = (2 * torch.rand(views, generator=generator) - 1) * AZIMUTH
    distance = torch.lerp(distances.min(), distances.max(), torch.rand(views, generator=generator))
    first = torch.linalg.cross(up, torch.eye(3).to(up)[up.abs().argmin()])
    first = first / first.norm()
    second = torch.linalg.cross(up, first)
    around = azimuth.cos()[:, None] * first + azimuth.sin()[:, None] * second
    to_eye = elevation.cos()[:, None] * around + elevation.sin()[:, None] * up
    return _cameras(posed, look_at(center + distance[:, None] * to_eye, center, up), generator)


def cameras_side_by_side(posed: PosedImages, views: int, seed: int = 0) -> Cameras:
    """Random cameras about those of forward-facing pictures, as MobileR2L's public code draws them.

    Places and directions are uniform in boxes a tenth wider than those of the real cameras; up is their mean.

    Args:
        posed: pictures with cameras.
        views: how many.
        seed: of the draw; the same cameras for the same seed.
    """
    check_count("views", views)
    generator = torch.Generator().manual_seed(seed)
    eyes = _uniform_about(camera_centres(posed.viewmats), views, generator)
    directions = _uniform_about(posed.viewmats[:, 2, :3], views, generator)
    return _cameras(posed, look_at(eyes, eyes + directions, _mean_up(posed)), generator)


def _cameras(posed: PosedImages, viewmats: Tensor, generator: torch.Generator) -> Cameras:
    """With the intrinsics of real cameras, drawn at random."""
    lens = torch.randint(len(posed), (len(viewmats),), generator=generator)
    return Cameras(viewmats, posed.Ks[lens], posed.width, posed.height)


def _mean_up(posed: PosedImages) -> Float[Tensor, " 3"]:
    return nn.functional.normalize(-posed.viewmats[:, 1, :3].mean(0), dim=0)


def _normal_within(low: float, high: float, draws: int, generator: torch.Generator) -> Float[Tensor, " draws"]:
    """Normal about the middle of a range with half its extent as deviation, and nothing outside."""
    drawn = torch.zeros(0)
    while len(drawn) < draws:
        more = torch.randn(2 * draws, generator=generator)
        drawn = torch.cat([drawn, more[more.abs() <= 1]])
    return (low + high) / 2 + (high - low) / 2 * drawn[:draws]


def _uniform_about(
    points: Float[Tensor, "points 3"], draws: int, generator: torch.Generator
) -> Float[Tensor, "draws 3"]:
    """In the box of some points, made wider."""
    low, high = points.amin(0), points.amax(0)
    share = torch.rand(draws, 3, generator=generator).to(points)
    return (low + high) / 2 + WIDER * (share - 0.5) * (high - low)
