"""The light slab: a ray as its hits (x, y) and (u, v) on two parallel planes (Levoy and Hanrahan 1996)."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

AXES = ("x", "y", "u", "v")
MIN_COSINE = 1e-3  # between a ray and the planes' normal; what is more oblique is taken as parallel to the planes
MIN_EXTENT = 1e-4  # of the widest axis; below it an axis holds rounding errors, not views


@dataclass(frozen=True)
class LightSlab:
    """Two parallel planes, z = `near` and z = `far` of a frame, and the part of them that a network sees as [-1, 1].

    The frame may be projective, which makes normalised device coordinates (`ndc_frame`) a slab as any other: there the
    second plane lies at infinity, and (u, v) are the ray's slopes.

    Attributes:
        frame: matrix from world to slab [4, 4]; its z axis runs from the first plane to the second.
        near: z of the first plane in the frame, a number or a tensor of one.
        far: z of the second plane, above `near`.
        low: x, y, u, v that become -1 [4].
        high: x, y, u, v that become 1, each above `low` [4].

    Raises:
        ValueError: for a wrong shape, naming the attribute. Values are not looked at, so that slabs can be made of
            buffers inside a graph that is exported.
    """

    frame: Float[Tensor, "4 4"]
    near: float | Float[Tensor, ""]
    far: float | Float[Tensor, ""]
    low: Float[Tensor, " 4"]
    high: Float[Tensor, " 4"]

    def __post_init__(self) -> None:
        for name, shape in (("frame", (4, 4)), ("low", (4,)), ("high", (4,))):
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} must be {list(shape)}, not {list(getattr(self, name).shape)}.")

    @classmethod
    def of_rays(
        cls,
        frame: Float[Tensor, "4 4"],
        near: float,
        far: float,
        origins: Float[Tensor, "*#rays 3"],
        directions: Float[Tensor, "*#rays 3"],
    ) -> Self:
        """The slab that just holds all rays: min-max over the training rays.

        Of a whole picture the four outermost rays suffice: from one camera, hits in a plane are a homography of the
        pixels, and so x, y, u and v are extreme at corners.

        Raises:
            ValueError: if `far` is not above `near`, for rays that `check_rays` refuses, or if all rays share a
                coordinate, as those of one camera or of one row of cameras do in the cameras' plane.
        """
        if not far > near:
            raise ValueError(f"far must be above near, which is {float(near)}, not {float(far)}.")
        unscaled = cls(frame, near, far, low=-frame.new_ones(4), high=frame.new_ones(4))
        unscaled.check_rays(origins, directions)
        coordinates = unscaled.coordinates(origins, directions).reshape(-1, 4)
        low, high = coordinates.amin(0), coordinates.amax(0)
        extents = (high - low).tolist()
        for axis, extent, value in zip(AXES, extents, low.tolist(), strict=True):
            if not extent > MIN_EXTENT * max(extents):
                raise ValueError(
                    f"rays must differ in x, y, u and v, not share {axis} = {value:.6g}; "
                    "a light slab needs views from more than one row and one column of places."
                )
        return cls(frame, near, far, low, high)

    def coordinates(
        self, origins: Float[Tensor, "*#rays 3"], directions: Float[Tensor, "*#rays 3"]
    ) -> Float[Tensor, "*rays 4"]:
        """x, y, u, v of rays, in [-1, 1] within the slab's ends; differentiable, with no look at the values.

        A ray is a line here: neither where it starts on it nor how long its direction is changes the result.

        Args:
            origins: a point of each ray in the world; leading dimensions broadcast.
            directions: of any length but 0, and not parallel to the planes (see `check_rays`).
        """
        return self.hits(*self._in_frame(origins, directions))

    def hits(self, starts: Float[Tensor, "*#rays 4"], steps: Float[Tensor, "*#rays 4"]) -> Float[Tensor, "*rays 4"]:
        """As `coordinates`, of rays that are in the slab's frame already.

        Args:
            starts: a point of each ray, in homogeneous coordinates.
            steps: from there to another point of it, likewise: as the difference of two such points.
        """
        (start_xy, start_z, start_w), (step_xy, step_z, step_w) = _parts(starts), _parts(steps)
        # Where start + t * step, in homogeneous coordinates, meets z = plane * w. With w = 1 and 0, as in a frame that
        # is not projective, it is o.xy + ((plane - o.z) / d.z) * d.xy.
        hits = [
            start_xy * (step_z - plane * step_w) - step_xy * (start_z - plane * start_w)
            for plane in (self.near, self.far)
        ]
        ahead = start_w * step_z - step_w * start_z  # [*rays, 1]: the same for both planes
        return (torch.cat(hits, -1) / ahead - self.low) * (2 / (self.high - self.low)) - 1

    def rays_of(
        self, coordinates: Float[Tensor, "*rays 4"]
    ) -> tuple[Float[Tensor, "*rays 3"], Float[Tensor, "*rays 3"]]:
        """(origins, directions) of rays in the world: origins on the first plane, directions to the second.

        `origins + directions` lies on the second plane, unless that is at infinity.
        """
        on_planes = (coordinates + 1) / 2 * (self.high - self.low) + self.low
        ones = torch.ones_like(on_planes[..., :1])
        first = torch.cat((on_planes[..., :2], ones * self.near, ones), -1)  # [*rays, 4]
        second = torch.cat((on_planes[..., 2:], ones * self.far, ones), -1)
        to_world = torch.linalg.inv(self.frame).mT
        first, second = first @ to_world, second @ to_world
        origins = first[..., :3] / first[..., 3:]
        return origins, second[..., :3] - second[..., 3:] * origins

    def check_rays(self, origins: Float[Tensor, "*#rays 3"], directions: Float[Tensor, "*#rays 3"]) -> None:
        """Nothing, if the slab can tell all rays apart.

        Raises:
            ValueError: for values that are not finite, rays that start at or behind the second plane, run parallel to
                the planes (within 0.06 degrees), or run from the second plane to the first.
        """
        for name, values in (("origins", origins), ("directions", directions)):
            if not torch.isfinite(values).all():
                raise ValueError(f"{name} of rays must be finite, not {_first(values, ~values.isfinite().all(-1))}.")
        start, step = self._in_frame(origins, directions)
        (_, start_z, start_w), (_, step_z, step_w) = _parts(start), _parts(step)
        behind = (self.far * start_w - start_z <= 0)[..., 0]
        if behind.any():
            raise ValueError(
                f"cameras must stand before the light slab's second plane, not behind it at {_first(origins, behind)}."
            )
        normals = start_w * self.frame[2, :3] - start_z * self.frame[3, :3]  # of the plane through each origin
        ahead = (start_w * step_z - step_w * start_z)[..., 0]
        cosines = ahead / (torch.linalg.vector_norm(normals, dim=-1) * torch.linalg.vector_norm(directions, dim=-1))
        bad = ~(cosines >= MIN_COSINE)  # NaN too: a direction of length 0
        if bad.any():
            raise ValueError(
                "rays must run from the light slab's first plane to its second, "
                f"not parallel to them or back as in direction {_first(directions, bad)}."
            )

    def _in_frame(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Homogeneous coordinates in the slab's frame of a point on each ray and of a step along it."""
        linear, shift = self.frame[:, :3], self.frame[:, 3]
        return origins @ linear.mT + shift, directions @ linear.mT  # [*rays, 4] each


def ndc_frame(
    viewmat: Float[Tensor, "4 4"], K: Float[Tensor, "3 3"], height: int, width: int, near: float = 1.0
) -> Float[Tensor, "4 4"]:
    """World to normalised device coordinates of a forward-facing scene, for a slab between z = -1 and z = 1.

    The NDC of NeRF (Mildenhall et al. 2020, arXiv 2003.08934) and LLFF in OpenCV axes (x right, y down, z forward):
    z = -1 is the plane at distance `near` before the reference camera and z = 1 is infinitely far, so (x, y) are its
    o_ndc.xy and (u, v) its (o_ndc + d_ndc).xy.

    Args:
        viewmat: world to the reference camera, usually the mean of the cameras.
        K: intrinsics in pixels; the focal lengths count, the principal point is taken at the centre.
        height, width: of its picture in pixels.
        near: distance of the first plane in scene units, above 0.
    """
    if not near > 0:
        raise ValueError(f"near must be above 0, not {near}.")
    projection = viewmat.new_zeros(4, 4)
    projection[0, 0], projection[1, 1] = 2 * K[0, 0] / width, 2 * K[1, 1] / height
    projection[2, 2], projection[2, 3], projection[3, 2] = 1.0, -2.0 * near, 1.0
    return projection @ viewmat


def _parts(homogeneous: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return homogeneous[..., :2], homogeneous[..., 2:3], homogeneous[..., 3:]


def _first(vectors: Tensor, chosen: Tensor) -> list[float]:
    """The first chosen vector, for a message."""
    vectors = vectors.expand(*chosen.shape, 3)
    return [round(value, 6) for value in vectors[chosen][0].tolist()]
