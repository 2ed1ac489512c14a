"""A batched analytic ray caster: every picture of PocketWorld and its exact depth, normals and masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .intersections import intersect, unit
from .scene import COLORS, MAX_OBJECTS, SHAPES, Scene

SUBPIXELS = 3  # a side; odd, so that the middle ray is the pixel's centre and carries the exact buffers
_CHUNK_PIXELS = 32 * 64 * 64  # pictures rendered together stay within the processor's cache

# Half extents of the boxes that hold the unit shapes, along x, y, z.
_EXTENTS = {
    "cube": (0.82, 0.82, 0.82),
    "sphere": (1.0, 1.0, 1.0),
    "cylinder": (0.80, 0.95, 0.80),
    "cone": (1.0, 1.0, 1.0),
    "torus": (1.0, 0.32, 1.0),
}
_CORNERS = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


@dataclass(frozen=True)
class Rendering:
    """Pictures and their exact geometry, B pictures of H x W pixels with at most N objects each.

    Attributes:
        rgb: [B, 3, H, W] in [0, 1], antialiased.
        depth: [B, H, W] distance along the camera's z axis at pixel centres, in scene units; 0 where there is none.
        normals: [B, 3, H, W] unit world-space normals; (0, 0, 0) where there is no surface.
        instances: [B, H, W] index of the object in its scene, -1 for ground and sky.
        visibility: [B, N] share of an object's outline that is in the picture and not behind another object;
            0 for objects that the scene does not have.
    """

    rgb: Float[Tensor, "batch 3 height width"]
    depth: Float[Tensor, "batch height width"]
    normals: Float[Tensor, "batch 3 height width"]
    instances: Int[Tensor, "batch height width"]
    visibility: Float[Tensor, "batch objects"]


@torch.no_grad()
def render(
    scenes: Sequence[Scene],
    viewmats: Float[Tensor, "batch 4 4"],
    Ks: Float[Tensor, "batch 3 3"],
    size: int | tuple[int, int],
    times: Sequence[float] | None = None,
) -> Rendering:
    """Render one picture per scene and camera.

    Args:
        scenes: B scenes.
        viewmats: [B, 4, 4] world-to-camera, OpenCV axes; or [4, 4], one camera for all.
        Ks: [B, 3, 3] intrinsics in pixels, pixel centres at +0.5; or [3, 3].
        size: pixels, one number for a square or (height, width).
        times: B moments in seconds at which moving objects are taken; all 0 by default.

    Raises:
        ValueError: if counts disagree, the size is below 1 or a camera stands below the ground.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size is {size}; height and width must be at least 1 pixel.")
    count = len(scenes)
    viewmats, Ks = _one_per_scene("viewmats", viewmats, 4, count), _one_per_scene("Ks", Ks, 3, count)
    times = [0.0] * count if times is None else times
    if len(times) != count:
        raise ValueError(f"times has {len(times)} entries for {count} scenes; give one per scene.")
    scenes = [scene.at(time) for scene, time in zip(scenes, times, strict=True)]
    step = max(1, _CHUNK_PIXELS // (height * width))
    parts = [
        _Frames(scenes[i : i + step], viewmats[i : i + step], Ks[i : i + step], height, width).draw()
        for i in range(0, count, step)
    ]
    if not parts:
        raise ValueError("scenes is empty; give at least one scene.")
    return Rendering(*(torch.cat([getattr(part, name) for part in parts]) for name in Rendering.__annotations__))


def _one_per_scene(name, matrices, side, count):
    if matrices.shape not in ((side, side), (1, side, side), (count, side, side)):
        given, wanted = list(matrices.shape), f"[{side}, {side}] or [{count}, {side}, {side}]"
        raise ValueError(f"{name} has shape {given}; it must be {wanted}, one per scene.")
    return matrices.float().expand(count, side, side)


class _Frames:
    """A few pictures on their way: flat tables of O objects, and of P pairs (one object, one subpixel ray).

    A ray through subpixel (x, y) of an object's picture is, in the object's own frame, `origin + t * (ray @ (x, y, 1))`
    with t the depth along the camera's z axis, so that depths of all objects compare directly.
    """

    def __init__(self, scenes, viewmats, Ks, height, width):
        self.count, self.height, self.width = len(scenes), height, width
        self.sub_height, self.sub_width = SUBPIXELS * height, SUBPIXELS * width
        self.light = _rows([scene.light for scene in scenes])
        self.ground = _rows([scene.ground for scene in scenes])
        self.sky = _rows([scene.sky for scene in scenes])
        self.ambient = torch.tensor([scene.ambient for scene in scenes])

        rotation = viewmats[:, :3, :3].transpose(1, 2)  # camera to world
        self.eye = -(rotation @ viewmats[:, :3, 3:])[..., 0]
        if (self.eye[:, 1] <= 0).any():
            raise ValueError("viewmats holds a camera at or below the ground; cameras must stand above y = 0.")
        self.viewmats, self.Ks = viewmats, Ks
        self.ray = rotation @ _unproject(Ks)  # [B, 3, 3]: pixel (u, v, 1) to a world direction with camera z = 1

        self.shapes = [obj.shape for scene in scenes for obj in scene.objects]
        self.picture = torch.tensor([b for b, scene in enumerate(scenes) for _ in scene.objects])
        self.slot = torch.tensor([n for scene in scenes for n in range(len(scene.objects))])
        self.siblings = torch.tensor([len(scene.objects) for scene in scenes for _ in scene.objects])
        objects = [obj for scene in scenes for obj in scene.objects]
        self.center = _rows([obj.position for obj in objects])
        self.radius = torch.tensor([obj.radius for obj in objects])
        self.color = _rows([COLORS[obj.color] for obj in objects])
        self.shape = torch.tensor([SHAPES.index(name) for name in self.shapes])
        self.to_local = _yaw(torch.tensor([obj.yaw for obj in objects])).transpose(1, 2) / self.radius[:, None, None]
        self.local_light = (self.to_local @ self.light[self.picture][..., None])[..., 0]

    def draw(self) -> Rendering:
        pairs, t, normal = self._cast()
        nearest, front = self._depth_test(pairs, t)
        visibility = self._visibility(pairs, t, front)
        winners = _Pairs(*(x[front] for x in pairs))
        t, normal = t[front], normal[:, front]
        world_normal = self._to_world(winners.object, normal)
        color = self._shade(winners, t, world_normal)
        shadow = self._ground_shadow(nearest)
        depth, normals, instances = self._buffers(winners, t, world_normal)
        rgb = self._composite(winners, color, shadow)
        return Rendering(rgb, depth, normals, instances, visibility)

    # Geometry

    def _cast(self):
        """Pairs of every object with the subpixels of its box, and where those rays hit it."""
        points = self._corners()
        pairs = self._pairs(points)
        origin = (self.to_local @ (self.eye[self.picture] - self.center)[..., None])[..., 0]
        ray = self._subpixel(self.to_local @ self.ray[self.picture])
        o = origin.T.index_select(1, pairs.object)
        d = _directions(ray, pairs)
        t, normal = self._intersect(pairs.object, o, d)
        return pairs, t, normal

    def _corners(self):
        """[O, 8, 3] world corners of the boxes that hold the objects."""
        extents = _rows([_EXTENTS[name] for name in self.shapes])
        local = _CORNERS * extents[:, None] * (self.radius**2)[:, None, None]  # to_local carries 1 / r
        return local @ self.to_local + self.center[:, None]

    def _pairs(self, points, margin=1.0):
        """Every subpixel in the picture box around the world points [O, 8, 3] of each object.

        The box may leave the picture by `margin` times its size, so that cut-off outlines are known too.
        """
        viewmat, K = self.viewmats[self.picture], self.Ks[self.picture]
        camera = points @ viewmat[:, :3, :3].transpose(1, 2) + viewmat[:, None, :3, 3]
        z = camera[..., 2]
        pixel = camera @ K.transpose(1, 2)
        uv = pixel[..., :2] / z.clamp(min=1e-3)[..., None] * SUBPIXELS
        in_front = (z > 1e-3).all(dim=1)
        behind = (z <= 1e-3).all(dim=1)
        size = torch.tensor([self.sub_width, self.sub_height], dtype=uv.dtype)
        low = torch.where(in_front[:, None], uv.amin(dim=1).floor(), -margin * size)
        high = torch.where(in_front[:, None], uv.amax(dim=1).ceil(), (1 + margin) * size)
        low = torch.maximum(low, -margin * size).long()
        high = torch.minimum(high, (1 + margin) * size).long()
        extent = (high - low).clamp(min=0) * ~behind[:, None]
        return _enumerate(low, extent)

    def _intersect(self, index, o, d):
        """First hits of local rays [3, P] with the objects at `index`, shape by shape."""
        t = torch.full((index.numel(),), math.inf)
        normal = torch.zeros_like(o)
        shape = self.shape[index]
        for number, name in enumerate(SHAPES):
            chosen = (shape == number).nonzero()[:, 0]
            if chosen.numel():
                t[chosen], normal[:, chosen] = intersect(name, o[:, chosen], d[:, chosen])
        return t, normal

    def _depth_test(self, pairs, t):
        """The nearest depth at every subpixel, and which pairs hold it inside the picture."""
        inside = (pairs.x >= 0) & (pairs.x < self.sub_width) & (pairs.y >= 0) & (pairs.y < self.sub_height)
        hit = (inside & t.isfinite()).nonzero()[:, 0]
        subpixel = self._subpixel_index(pairs.object[hit], pairs.x[hit], pairs.y[hit])
        nearest = torch.full((self.count * self.sub_height * self.sub_width,), math.inf)
        nearest.scatter_reduce_(0, subpixel, t[hit], "amin")
        return nearest, hit[t[hit] == nearest[subpixel]]

    def _visibility(self, pairs, t, front):
        outline = torch.bincount(pairs.object[t.isfinite()], minlength=len(self.shapes))
        seen = torch.bincount(pairs.object[front], minlength=len(self.shapes))
        visibility = torch.zeros(self.count, MAX_OBJECTS)
        visibility[self.picture, self.slot] = seen / outline.clamp(min=1)
        return visibility

    def _buffers(self, winners, t, normal):
        """Depth, normals and instances at pixel centres: those of the middle subpixel."""
        middle = SUBPIXELS // 2
        chosen = ((winners.x % SUBPIXELS == middle) & (winners.y % SUBPIXELS == middle)).nonzero()[:, 0]
        pixel = self._pixel_index(winners)[chosen]
        depth, ground = self._ground_depth()
        normals = torch.zeros(3, self.count * self.height * self.width)
        normals[1] = ground.flatten().float()
        instances = torch.full((self.count * self.height * self.width,), -1, dtype=torch.int8)
        depth = depth.flatten()
        depth[pixel] = t[chosen]
        normals[:, pixel] = normal[:, chosen]
        instances[pixel] = self.slot[winners.object[chosen]].to(torch.int8)
        shape = (self.count, self.height, self.width)
        return depth.view(shape), normals.view(3, *shape).transpose(0, 1).contiguous(), instances.view(shape)

    def _ground_depth(self):
        """[B, H, W] depth of the ground at pixel centres (0 towards the sky), and where there is ground."""
        down = -self._pixel_directions()[:, 1]
        ground = down > 1e-6
        return torch.where(ground, self.eye[:, 1, None, None] / down.clamp(min=1e-6), 0.0), ground

    # Light

    def _shade(self, winners, t, normal):
        """[3, P] colours of the winning pairs: ambient sky light, a lamp with shadow, a small highlight."""
        picture = self.picture[winners.object]
        view = _directions(self._subpixel(self.ray[self.picture]), winners)
        point = self.eye.T.index_select(1, picture) + t * view
        light, ambient = self.light.T.index_select(1, picture), self.ambient[picture]
        facing = (normal * light).sum(dim=0).clamp(min=0)
        lit = facing * ~self._object_shadow(winners, point)
        half = unit(light - unit(view))
        highlight = (normal * half).sum(dim=0).clamp(min=0) ** 40 * (lit > 0)
        diffuse = ambient * (0.8 + 0.2 * normal[1]) + 1.15 * (1 - ambient) * lit
        return (self.color.T.index_select(1, winners.object) * diffuse + 0.22 * highlight).clamp(max=1)

    def _object_shadow(self, winners, point):
        """Whether another object of the same scene stands between each surface point [3, P] and the light."""
        shadow = torch.zeros(point.shape[1], dtype=torch.bool)
        siblings, slot = self.siblings[winners.object], self.slot[winners.object]
        for k in range(1, int(self.siblings.max())):
            chosen = (siblings > k).nonzero()[:, 0]
            index = winners.object[chosen]
            other = index - slot[chosen] + (slot[chosen] + k) % siblings[chosen]
            offset = point[:, chosen] - self.center.T.index_select(1, other)
            light = self.light.T.index_select(1, self.picture[other])
            along = (offset * light).sum(dim=0)
            across = (offset * offset).sum(dim=0) - along * along
            near = ((along < 0) & (across < 2.1 * self.radius[other] ** 2)).nonzero()[:, 0]  # 2.1 > cube's 3 * 0.82^2
            if near.numel():
                other = other[near]
                o = torch.einsum("pij,jp->ip", self.to_local[other], offset[:, near])
                t, _ = self._intersect(other, o, self.local_light.T.index_select(1, other))
                shadow[chosen[near]] |= t.isfinite()
        return shadow

    def _ground_shadow(self, nearest):
        """[B * SH * SW] subpixels that see shadowed ground."""
        points = self._corners()
        light = self.light[self.picture][:, None]
        footprint = points - light * (points[..., 1:2] / light[..., 1:2])
        pairs = self._pairs(footprint, margin=0.0)
        subpixel = self._subpixel_index(pairs.object, pairs.x, pairs.y)
        pairs_down = -_directions(self._subpixel(self.ray[self.picture][:, 1:2]), pairs)[0]
        open_ground = (nearest[subpixel].isinf() & (pairs_down > 1e-6)).nonzero()[:, 0]
        pairs, subpixel = _Pairs(*(x[open_ground] for x in pairs)), subpixel[open_ground]
        t = self.eye[self.picture[pairs.object], 1] / pairs_down[open_ground]
        origin = (self.to_local @ (self.eye[self.picture] - self.center)[..., None])[..., 0]
        o = origin.T.index_select(1, pairs.object) + t * _directions(self._subpixel(self.to_local @ self.ray[self.picture]), pairs)
        hit, _ = self._intersect(pairs.object, o, self.local_light.T.index_select(1, pairs.object))
        shadow = torch.zeros_like(nearest, dtype=torch.bool)
        shadow[subpixel[hit.isfinite()]] = True
        return shadow

    def _background(self):
        """Two [B, 3, H, W] pictures of the empty scene: in the light and in shadow."""
        direction = self._pixel_directions()
        depth, ground = self._ground_depth()
        point = self.eye[:, ::2, None, None] + depth[:, None] * direction[:, ::2]
        fade = ((point.square().sum(dim=1).sqrt() - 2.5) / 9.0).clamp(0, 1)
        fade = torch.where(ground, fade * fade * (3 - 2 * fade), 1.0)[:, None]
        up = (direction[:, 1] / direction.square().sum(dim=1).sqrt()).clamp(min=0)[:, None]
        sky = self.sky[:, :, None, None] * (1 - 0.35 * up)
        ambient = self.ambient[:, None, None, None]
        floor = self.ground[:, :, None, None]
        lit = floor * (ambient + (1 - ambient) * self.light[:, 1, None, None, None]) * 1.1
        return tuple(torch.lerp(shade.expand_as(sky), sky, fade) for shade in (lit, floor * ambient))

    def _composite(self, winners, color, shadow):
        lit, dark = self._background()
        pixels = self.count * self.height * self.width
        pixel = self._pixel_index(winners)
        total = torch.zeros(3, pixels).index_add_(1, pixel, color).view(3, self.count, self.height, self.width)
        covered = torch.bincount(pixel, minlength=pixels).view(self.count, 1, self.height, self.width)
        blocks = shadow.view(self.count, self.height, SUBPIXELS, self.width, SUBPIXELS)
        shaded = blocks.sum(dim=(2, 4))[:, None]
        full = SUBPIXELS**2
        return ((full - covered - shaded) * lit + shaded * dark + total.transpose(0, 1)).div_(full).clamp_(0, 1)

    # Indices and directions

    def _subpixel_index(self, index, x, y):
        return (self.picture[index] * self.sub_height + y) * self.sub_width + x

    def _pixel_index(self, pairs):
        row = self.picture[pairs.object] * self.height + pairs.y // SUBPIXELS
        return row * self.width + pairs.x // SUBPIXELS

    def _subpixel(self, ray):
        """The same [O, k, 3] map for whole subpixel numbers (x, y): u = (x + 1/2) / SUBPIXELS."""
        shift = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, SUBPIXELS]]) / SUBPIXELS
        return ray @ shift

    def _pixel_directions(self):
        """[B, 3, H, W] world directions through pixel centres, with camera z = 1."""
        v, u = torch.meshgrid(torch.arange(self.height) + 0.5, torch.arange(self.width) + 0.5, indexing="ij")
        column = [self.ray[:, :, k, None, None] for k in range(3)]
        return column[0] * u + column[1] * v + column[2]

    def _to_world(self, index, normal):
        rotation = (self.to_local * self.radius[:, None, None]).permute(1, 2, 0).index_select(2, index)  # world to local
        return (rotation * normal[:, None]).sum(dim=0)


class _Pairs(tuple):
    """Flat lists of the same length: object number and whole subpixel coordinates."""

    def __new__(cls, index, x, y):
        return super().__new__(cls, (index, x, y))

    object = property(lambda self: self[0])
    x = property(lambda self: self[1])
    y = property(lambda self: self[2])


def _enumerate(low, extent) -> _Pairs:
    """All whole points of the boxes `low` + [0, extent), box after box."""
    counts = extent.prod(dim=1)
    index = torch.repeat_interleave(torch.arange(len(counts)), counts)
    offset = torch.arange(index.numel()) - (counts.cumsum(0) - counts)[index]
    width = extent[:, 0].clamp(min=1)[index]
    return _Pairs(index, low[index, 0] + offset % width, low[index, 1] + offset // width)


def _directions(ray, pairs):
    """[k, P]: the rows of each pair's [k, 3] map applied to (x, y, 1)."""
    columns = ray.permute(2, 1, 0).contiguous().index_select(2, pairs.object)  # [3, k, P]
    return columns[0] * pairs.x + columns[1] * pairs.y + columns[2]


def _unproject(Ks):
    """[B, 3, 3] inverse intrinsics."""
    return torch.linalg.inv(Ks)


def _yaw(angle):
    """[O, 3, 3] rotations about +Y that take local to world directions."""
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = torch.stack((c, zero, s, zero, one, zero, -s, zero, c), dim=-1)
    return rows.view(-1, 3, 3)


def _rows(values):
    return torch.tensor(values, dtype=torch.float32)
