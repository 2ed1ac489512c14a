"""Divide and conquer of an orbit: clusters of cameras, and the two planes through which each looks at the object."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .cameras import camera_centres, look_at

RESTARTS = 16  # k-means ends in the nearest optimum, so the best of several beginnings counts
ITERATIONS = 1000  # far more than k-means needs; a bound against a circle by rounding
BORDER = 0.25  # half the width of the zone in which two clusters share a camera, as a share of the way to a centre
MIN_LENGTH = 1e-3  # of a mean of unit vectors; below it they cancel


@dataclass(frozen=True)
class ViewClusters:
    """Clusters of cameras by where they stand; each is a sub-scene with a light slab of its own.

    Attributes:
        centres: means of the cameras of each cluster, in scene units [clusters, 3].

    Raises:
        ValueError: if `centres` has another shape.
    """

    centres: Float[Tensor, "clusters 3"]

    def __post_init__(self) -> None:
        if self.centres.ndim != 2 or self.centres.shape[1] != 3 or not len(self.centres):
            raise ValueError(f"centres must be [clusters, 3], not {list(self.centres.shape)}.")

    @classmethod
    def of_cameras(cls, cameras: Float[Tensor, "cameras 3"], count: int, seed: int = 0) -> Self:
        """k-means of camera centres: the best of several k-means++ beginnings, the same for the same seed.

        Args:
            cameras: where they stand, in scene units.
            count: of clusters, at least 1 and at most as many as there are different places.
            seed: of the beginnings.

        Raises:
            ValueError: for places that are not finite, or a count out of range.
        """
        if not torch.isfinite(cameras).all():
            raise ValueError("cameras must stand at finite places, not at infinity or NaN.")
        points = cameras.double().cpu()
        places = len(points.unique(dim=0))
        if int(count) != count or not 1 <= count <= places:
            raise ValueError(f"count must be a whole number from 1 to {places}, the places of cameras, not {count}.")
        generator = torch.Generator().manual_seed(seed)
        tries = [_k_means(points, _spread_out(points, count, generator)) for _ in range(RESTARTS)]
        return cls(min(tries, key=lambda centres: _nearest(points, centres)[0].sum()).to(cameras))

    def __len__(self) -> int:
        return len(self.centres)

    def route(self, cameras: Float[Tensor, "*batch 3"]) -> Int[Tensor, "*batch"]:
        """The cluster whose centre is nearest to each camera."""
        return self._distances(cameras).argmin(-1)

    def weights(self, cameras: Float[Tensor, "*batch 3"], border: float = BORDER) -> Float[Tensor, "*batch clusters"]:
        """How much each cluster's picture counts in a camera's: only that of the nearest, but two near a border.

        The border of two clusters is the plane midway between their centres. In a zone along it one weight rises
        linearly from 0 to 1 while the other falls. Where a third cluster meets them it takes no part.

        Args:
            cameras: where they stand, in scene units.
            border: half the width of the zone as a share of the way from the border to a centre, in [0, 1].

        Raises:
            ValueError: if the border is out of range.
        """
        if not 0 <= border <= 1:
            raise ValueError(f"border must be between 0 and 1, not {border}.")
        distances = self._distances(cameras)  # [*batch, clusters]
        if len(self) == 1:
            return torch.ones_like(distances)
        near, pair = distances.topk(2, largest=False)  # [*batch, 2] each
        ends = self.centres[pair]
        apart = torch.linalg.vector_norm(ends[..., 0, :] - ends[..., 1, :], dim=-1)
        from_border = (near[..., 1].square() - near[..., 0].square()) / (2 * apart)
        zone = (border * apart / 2).clamp(min=torch.finfo(apart.dtype).tiny)
        weight = 0.5 + 0.5 * (from_border / zone).clamp(max=1)
        return torch.zeros_like(distances).scatter(-1, pair, torch.stack((weight, 1 - weight), -1))

    def blended(
        self,
        cameras: Float[Tensor, "batch 3"],
        draw: Callable[[int, Bool[Tensor, " batch"]], Float[Tensor, "drawn channels height width"]],
    ) -> Float[Tensor, "batch channels height width"]:
        """Pictures of cameras, each by the clusters that have a weight in it.

        Args:
            cameras: where they stand, in scene units; at least one.
            draw: a cluster, and which of the cameras it draws -> their pictures.
        """
        weights = self.weights(cameras)  # [batch, clusters]
        parts = []
        for cluster in weights.any(0).nonzero().flatten().tolist():
            mine = weights[:, cluster] > 0
            drawn = draw(cluster, mine)
            part = drawn.new_zeros(len(cameras), *drawn.shape[1:])
            part[mine] = weights[mine, cluster, None, None, None].to(drawn.dtype) * drawn
            parts.append(part)
        return sum(parts[1:], start=parts[0])

    def _distances(self, cameras: Tensor) -> Tensor:
        return torch.linalg.vector_norm(cameras[..., None, :] - self.centres, dim=-1)


def planes_of_box(
    viewmats: Float[Tensor, "cameras 4 4"], low: Float[Tensor, " 3"], high: Float[Tensor, " 3"]
) -> tuple[Float[Tensor, "4 4"], float, float]:
    """(frame, near, far) of the light slab through which a cluster's cameras look at an object.

    The frame is that of a camera in the cameras' mean place which looks at the middle of the object's box, with their
    mean up; the planes stand across its line of sight where the box begins and ends.

    Args:
        viewmats: world to camera of the cluster's cameras, OpenCV axes.
        low, high: opposite corners of the object's box in the world.

    Raises:
        ValueError: if the box is empty, or a camera does not stand before both planes.
    """
    if not (torch.isfinite(high - low) & (high > low)).all():
        raise ValueError(f"the object's box must have an extent, not reach from {low.tolist()} to {high.tolist()}.")
    cameras, middle = camera_centres(viewmats), (low + high) / 2
    frame = look_at(cameras.mean(0), middle, _mean_up(viewmats, middle - cameras.mean(0)))
    into, depth = frame[2, :3], frame[2, 3]
    half = (high - low) / 2 @ into.abs()  # of the box along the line of sight
    near, far = (float(middle @ into + depth + side * half) for side in (-1, 1))
    behind = ~(cameras @ into + depth < near)
    if behind.any():
        place = [round(value, 6) for value in cameras[behind][0].tolist()]
        raise ValueError(
            "cameras of a cluster must stand before the near side of the object's box as their mean camera sees it, "
            f"not at {place}; more clusters or a smaller box may help."
        )
    return frame, near, far


def _mean_up(viewmats: Tensor, forward: Tensor) -> Tensor:
    """Mean of the cameras' upward axes; the world's axis most across `forward` where they cancel, as around a pole."""
    up = -viewmats[:, 1, :3].mean(0)
    across = torch.linalg.cross(up, torch.nn.functional.normalize(forward, dim=0))
    if float(torch.linalg.vector_norm(across)) < MIN_LENGTH:
        return torch.eye(3).to(up)[forward.abs().argmin()]
    return up


def _spread_out(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii 2007): points drawn by their squared distance from those drawn before."""
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < count:
        squared, _ = _nearest(points, centres)
        centres = torch.cat((centres, points[torch.multinomial(squared, 1, generator=generator)]))
    return centres


def _k_means(points: Tensor, centres: Tensor) -> Tensor:
    """Lloyd's algorithm to its end; a centre that lost all points goes to the one that is farthest from its own."""
    before = None
    for _ in range(ITERATIONS):
        squared, labels = _nearest(points, centres)
        if before is not None and torch.equal(labels, before):
            break
        members = [points[labels == index] for index in range(len(centres))]
        centres = torch.stack([own.mean(0) if len(own) else points[squared.argmax()] for own in members])
        before = labels
    return centres


def _nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance to the nearest centre of each point, and its index."""
    return (points[:, None] - centres).square().sum(-1).min(-1)
