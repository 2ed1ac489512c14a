"""A batched analytic ray caster: every picture of PocketWorld and its exact depth, normals and masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .cameras import picture_size
from .intersections import intersect, unit
from .scene import COLORS, MAX_OBJECTS, SHAPES, Scene
from .thread_map import map_in_threads

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
# Their bounding spheres, a little generous.
_BOUNDS = {"cube": 1.43, "sphere": 1.01, "cylinder": 1.25, "cone": 1.42, "torus": 1.06}
_CORNERS = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_EDGES = torch.tensor([[i, j] for i in range(8) for j in range(i) if (i ^ j).bit_count() == 1]).T  # [2, 12]
_NEAR = 1e-3  # scene units in front of the camera, where boxes that reach behind it are cut


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
    height, width = picture_size(size)
    count = len(scenes)
    viewmats, Ks = _one_per_scene("viewmats", viewmats, 4, count), _one_per_scene("Ks", Ks, 3, count)
    times = [0.0] * count if times is None else times
    if len(times) != count:
        raise ValueError(f"times has {len(times)} entries for {count} scenes; give one per scene.")
    scenes = [scene.at(time) for scene, time in zip(scenes, times, strict=True)]
    step = max(1, _CHUNK_PIXELS // (height * width))
    if not scenes:
        raise ValueError("scenes is empty; give at least one scene.")

    @torch.no_grad()
    def draw(chunk: slice) -> Rendering:
        return _Frames(scenes[chunk], viewmats[chunk], Ks[chunk], height, width).draw()

    parts = map_in_threads(draw, [slice(start, start + step) for start in range(0, count, step)])
    return Rendering(*(torch.cat([getattr(part, name) for part in parts]) for name in Rendering.__annotations__))


def _one_per_scene(name, matrices, side, count):
    if matrices.shape not in ((side, side), (1, side, side), (count, side, side)):
        given, wanted = list(matrices.shape), f"[{side}, {side}] or [{count}, {side}, {side}]"
        raise ValueError(f"{name} must be {wanted}, one per scene, not {given}.")
    return matrices.float().expand(count, side, side)


class _Frames:
    """A few pictures on their way: flat tables of O objects, and of P pairs (one object, one subpixel ray).

    A ray through subpixel (x, y) of an object's picture is, in the object's own frame, `origin + t * (ray @ (x, y, 1))`
    with t the depth along the camera's z axis, so that depths of all objects compare directly. Tables have objects and
    pairs last, and objects stand shape by shape, so that what ascends by object number needs no sorting by shape.
    """

    def __init__(self, scenes, viewmats, Ks, height, width):
        self.count, self.height, self.width = len(scenes), height, width
        self.sub_height, self.sub_width = SUBPIXELS * height, SUBPIXELS * width
        self.light = _table([scene.light for scene in scenes])  # [3, B]
        self.ground = _table([scene.ground for scene in scenes])
        self.sky = _table([scene.sky for scene in scenes])
        self.ambient = torch.tensor([scene.ambient for scene in scenes])

        rotation = viewmats[:, :3, :3].transpose(1, 2)  # camera to world
        eye = -(rotation @ viewmats[:, :3, 3:])[..., 0]
        if (eye[:, 1] <= 0).any():
            raise ValueError("viewmats holds a camera at or below the ground; cameras must stand above y = 0.")
        self.viewmats, self.Ks, self.eye = viewmats, Ks, eye.T.contiguous()
        ray = rotation @ torch.linalg.inv(Ks)  # [B, 3, 3]: pixel (u, v, 1) to a world direction with camera z = 1
        self.pixel_ray, self.world_ray = ray, _columns(ray @ _TO_PIXELS)

        placed = [(b, n, obj) for b, scene in enumerate(scenes) for n, obj in enumerate(scene.objects)]
        placed.sort(key=lambda entry: SHAPES.index(entry[2].shape))
        objects = [obj for _, _, obj in placed]
        self.picture = torch.tensor([b for b, _, _ in placed])
        self.slot = torch.tensor([n for _, n, _ in placed])
        self.number = torch.full((self.count, MAX_OBJECTS), -1)
        self.number[self.picture, self.slot] = torch.arange(len(placed))
        self.shape_ends = torch.tensor([[obj.shape for obj in objects].count(name) for name in SHAPES]).cumsum(0)
        self.center = _table([obj.position for obj in objects])  # [3, O]
        self.color = _table([COLORS[obj.color] for obj in objects])
        self.radius = torch.tensor([obj.radius for obj in objects])
        self.bound = self.radius * torch.tensor([_BOUNDS[obj.shape] for obj in objects])
        self.extents = _table([_EXTENTS[obj.shape] for obj in objects])

        self.to_local = _yaw(torch.tensor([obj.yaw for obj in objects])).transpose(1, 2) / self.radius[:, None, None]
        to_eye = eye[self.picture] - self.center.T
        self.origin = (self.to_local @ to_eye[..., None])[..., 0].T.contiguous()
        self.ray = _columns(self.to_local @ ray[self.picture] @ _TO_PIXELS)
        self.local_light = (self.to_local @ self.light.T[self.picture][..., None])[..., 0].T.contiguous()

    def draw(self) -> Rendering:
        pairs, d, t, normal = self._cast()
        nearest, front = self._depth_test(pairs, t)
        visibility = self._visibility(pairs, t, front)
        winners = pairs.select(front)
        d, t, normal = d.index_select(1, front), t[front], normal.index_select(1, front)
        color = self._shade(winners, d, t, normal)
        shadow = self._ground_shadow(nearest)
        pixel = self._pixel_index(winners)
        depth, normals, instances = self._buffers(winners, pixel, t, normal)
        return Rendering(self._composite(pixel, color, shadow), depth, normals, instances, visibility)

    # Geometry

    def _cast(self):
        """Pairs of every object with the subpixels of its box; their local directions and where those hit it."""
        pairs = self._pairs(self._corners())
        d = _directions(self.ray, pairs.object, pairs)
        t, normal = self._intersect(pairs.object, self.origin.index_select(1, pairs.object), d)
        return pairs, d, t, normal

    def _corners(self):
        """[O, 8, 3] world corners of the boxes that hold the objects."""
        local = _CORNERS * self.extents.T[:, None] * (self.radius**2)[:, None, None]  # to_local carries 1 / r
        return local @ self.to_local + self.center.T[:, None]

    def _pairs(self, points, margin=1.0):
        """Every subpixel in the picture box around the box of world corners [O, 8, 3] of each object.

        The picture box may leave the picture by `margin` times its size, so that cut-off outlines are known too.
        """
        viewmat, K = self.viewmats[self.picture], self.Ks[self.picture]
        corners = points @ viewmat[:, :3, :3].transpose(1, 2) + viewmat[:, None, :3, 3]
        camera, known = _cut_at_near(corners)
        uv = (camera @ K.transpose(1, 2))[..., :2] / camera[..., 2:].clamp(min=_NEAR) * SUBPIXELS
        size = torch.tensor([self.sub_width, self.sub_height], dtype=uv.dtype)
        low = torch.where(known, uv, torch.inf).amin(dim=1).floor()
        high = torch.where(known, uv, -torch.inf).amax(dim=1).ceil()
        low, high = (edge.clamp(-margin * size, (1 + margin) * size).int() for edge in (low, high))
        return _enumerate(low, (high - low).clamp(min=0))

    def _intersect(self, index, o, d):
        """First hits of local rays [3, P] with the objects at `index`, which must ascend."""
        ends = torch.searchsorted(index, self.shape_ends.to(index.dtype)).tolist()
        spans = zip(SHAPES, [0, *ends], ends, strict=False)
        hits = [intersect(name, o[:, a:b], d[:, a:b]) for name, a, b in spans if b > a]
        if not hits:
            return o[0], o
        return tuple(torch.cat(parts, dim=-1) for parts in zip(*hits, strict=True))

    def _depth_test(self, pairs, t):
        """The nearest depth at every subpixel, and which pairs hold it inside the picture."""
        inside = (pairs.x >= 0) & (pairs.x < self.sub_width) & (pairs.y >= 0) & (pairs.y < self.sub_height)
        hit = (inside & (t < torch.inf)).nonzero()[:, 0]
        subpixel, depth = self._subpixel_index(pairs.select(hit)), t[hit]
        nearest = torch.full((self.count * self.sub_height * self.sub_width,), torch.inf)
        nearest.scatter_reduce_(0, subpixel, depth, "amin")
        return nearest, hit[depth == nearest[subpixel]]

    def _visibility(self, pairs, t, front):
        outline = torch.bincount(pairs.object[t < torch.inf], minlength=len(self.slot))
        seen = torch.bincount(pairs.object[front], minlength=len(self.slot))
        visibility = torch.zeros(self.count, MAX_OBJECTS)
        visibility[self.picture, self.slot] = seen / outline.clamp(min=1)
        return visibility

    def _buffers(self, winners, pixel, t, normal):
        """Depth, normals and instances at pixel centres: those of the middle subpixel."""
        middle = SUBPIXELS // 2
        chosen = ((winners.x % SUBPIXELS == middle) & (winners.y % SUBPIXELS == middle)).nonzero()[:, 0]
        pixel, index = pixel[chosen], winners.object[chosen]
        depth, ground = self._ground_depth
        depth = depth.flatten().clone()
        normals = torch.zeros(3, depth.numel())
        normals[1] = ground.flatten().float()
        instances = torch.full((depth.numel(),), -1, dtype=torch.int8)
        depth[pixel] = t[chosen]
        normals[:, pixel] = self._to_world(index, normal[:, chosen])
        instances[pixel] = self.slot[index].to(torch.int8)
        shape = (self.count, self.height, self.width)
        return depth.view(shape), normals.view(3, *shape).transpose(0, 1).contiguous(), instances.view(shape)

    def _to_world(self, index, normal):
        rotation = (self.to_local * self.radius[:, None, None]).permute(1, 2, 0)  # world to local
        return (rotation.index_select(2, index) * normal[:, None]).sum(dim=0)

    @cached_property
    def _pixel_directions(self):
        """[B, 3, H, W] world directions through pixel centres, with camera z = 1."""
        v, u = torch.meshgrid(torch.arange(self.height) + 0.5, torch.arange(self.width) + 0.5, indexing="ij")
        column = [self.pixel_ray[:, :, k, None, None] for k in range(3)]
        return column[0] * u + column[1] * v + column[2]

    @cached_property
    def _ground_depth(self):
        """[B, H, W] depth of the ground at pixel centres (0 towards the sky), and where there is ground."""
        down = -self._pixel_directions[:, 1]
        ground = down > 1e-6
        return torch.where(ground, self.eye[1, :, None, None] / down.clamp(min=1e-6), 0.0), ground

    # Light

    def _shade(self, winners, d, t, normal):
        """[3, P] colours of the winning pairs: ambient sky light, a lamp with shadow, a small highlight.

        In the objects' own frames, which are turned about the vertical only.
        """
        light = (self.local_light * self.radius).index_select(1, winners.object)
        ambient = self.ambient[self.picture].index_select(0, winners.object)
        facing = (normal * light).sum(dim=0).clamp(min=0)
        lit = facing * ~self._object_shadow(winners, t)
        half = unit(light - unit(d))
        highlight = (normal * half).sum(dim=0).clamp(min=0) ** 40 * (lit > 0)
        diffuse = ambient * (0.8 + 0.2 * normal[1]) + 1.15 * (1 - ambient) * lit
        return (self.color.index_select(1, winners.object) * diffuse + 0.22 * highlight).clamp(max=1)

    def _object_shadow(self, winners, t):
        """Whether another object of the same scene stands between the surface and the light."""
        own, caster = self._casters()
        starts = torch.searchsorted(winners.object, torch.arange(len(self.slot) + 1, dtype=torch.int32))
        which, chosen = _runs(starts[own], starts[own + 1] - starts[own])
        picture, caster = self.picture[own][which], caster[which]
        point = self.eye.index_select(1, picture) + t[chosen] * _directions(
            self.world_ray, picture, winners.select(chosen)
        )
        offset = point - self.center.index_select(1, caster)
        light = self.light.index_select(1, picture)
        along = (offset * light).sum(dim=0)
        across = (offset * offset).sum(dim=0) - along * along
        near = ((along < 0) & (across < self.bound[caster] ** 2)).nonzero()[:, 0]
        caster = caster[near]
        o = torch.einsum("pij,jp->ip", self.to_local[caster], offset.index_select(1, near))
        depth, _ = self._intersect(caster, o, self.local_light.index_select(1, caster))
        shadow = torch.zeros(len(t), dtype=torch.bool)
        shadow[chosen[near[depth < torch.inf]]] = True
        return shadow

    def _casters(self):
        """Objects and others of their scenes that may shade them, two lists of one length; the second ascends.

        One may shade another if it reaches into the beam of light that holds the other's bounding sphere.
        """
        siblings = self.number[self.picture]  # [O, N]
        offset = self.center.T[:, None] - self.center.T[siblings]  # [O, N, 3]
        along = (offset * self.light.T[self.picture][:, None]).sum(dim=-1)
        across = ((offset * offset).sum(dim=-1) - along * along).clamp(min=0).sqrt()
        reach = self.bound[:, None] + self.bound[siblings]
        other = (siblings >= 0) & (siblings != torch.arange(len(siblings))[:, None])
        own, column = (other & (across < reach) & (along < self.bound[:, None])).nonzero().T
        caster = siblings[own, column]
        order = caster.argsort()
        return own[order], caster[order]

    def _ground_shadow(self, nearest):
        """[B * SH * SW] subpixels that see shadowed ground."""
        points = self._corners()
        light = self.light.T[self.picture][:, None]
        footprint = points - light * (points[..., 1:2] / light[..., 1:2])
        pairs = self._pairs(footprint, margin=0.0)
        subpixel = self._subpixel_index(pairs)
        down = -_directions(self.world_ray[:, 1:2, self.picture], pairs.object, pairs)[0]
        open_ground = ((nearest[subpixel] == torch.inf) & (down > 1e-6)).nonzero()[:, 0]
        pairs, subpixel = pairs.select(open_ground), subpixel[open_ground]
        t = self.eye[1, self.picture][pairs.object] / down[open_ground]
        o = self.origin.index_select(1, pairs.object) + t * _directions(self.ray, pairs.object, pairs)
        hit, _ = self._intersect(pairs.object, o, self.local_light.index_select(1, pairs.object))
        shadow = torch.zeros_like(nearest, dtype=torch.bool)
        shadow[subpixel[hit < torch.inf]] = True
        return shadow

    def _background(self):
        """Two [B, 3, H, W] pictures of the empty scene: in the light and in shadow."""
        direction = self._pixel_directions
        depth, ground = self._ground_depth
        point = self.eye.T[:, ::2, None, None] + depth[:, None] * direction[:, ::2]
        fade = ((point.square().sum(dim=1).sqrt() - 2.5) / 9.0).clamp(0, 1)
        fade = torch.where(ground, fade * fade * (3 - 2 * fade), 1.0)[:, None]
        up = (direction[:, 1] / direction.square().sum(dim=1).sqrt()).clamp(min=0)[:, None]
        sky = self.sky.T[:, :, None, None] * (1 - 0.35 * up)
        ambient = self.ambient[:, None, None, None]
        floor = self.ground.T[:, :, None, None]
        lit = floor * (ambient + (1 - ambient) * self.light[1, :, None, None, None]) * 1.1
        return tuple(torch.lerp(shade.expand_as(sky), sky, fade) for shade in (lit, floor * ambient))

    def _composite(self, pixel, color, shadow):
        lit, dark = self._background()
        pixels = self.count * self.height * self.width
        total = torch.zeros(3, pixels).index_add_(1, pixel, color).view(3, self.count, self.height, self.width)
        covered = torch.bincount(pixel, minlength=pixels).view(self.count, 1, self.height, self.width)
        shaded = self._shaded(shadow)
        full = SUBPIXELS**2
        return ((full - covered - shaded) * lit + shaded * dark + total.transpose(0, 1)).div_(full).clamp_(0, 1)

    def _shaded(self, shadow):
        """[B, 1, H, W] how many subpixels of each pixel lie in shadow; adding slices is faster than a sum over them."""
        rows = shadow.view(torch.uint8).view(self.count, self.height, SUBPIXELS, self.sub_width)
        lines = sum(rows[:, :, k] for k in range(SUBPIXELS)).view(self.count, self.height, self.width, SUBPIXELS)
        return sum(lines[..., k] for k in range(SUBPIXELS))[:, None].int()

    # Indices

    def _subpixel_index(self, pairs):
        """[P] int64 place in a flat [B, SH, SW]."""
        return (self.picture[pairs.object] * self.sub_height + pairs.y) * self.sub_width + pairs.x

    def _pixel_index(self, pairs):
        """[P] int64 place in a flat [B, H, W]."""
        row = self.picture[pairs.object] * self.height + pairs.y // SUBPIXELS
        return row * self.width + pairs.x // SUBPIXELS


class _Pairs(NamedTuple):
    """Flat int32 lists of the same length: ascending object numbers and whole subpixel coordinates."""

    object: Tensor
    x: Tensor
    y: Tensor

    def select(self, index: Tensor) -> Self:
        return type(self)(*(values.index_select(0, index) for values in self))


def _cut_at_near(corners):
    """Camera-space boxes [O, 8, 3], cut at the near plane: [O, 20, 3] points and which of them [O, 20, 1] exist."""
    start, end = corners[:, _EDGES[0]], corners[:, _EDGES[1]]  # [O, 12, 3]
    before = corners[..., 2:] > _NEAR
    crosses = before[:, _EDGES[0]] != before[:, _EDGES[1]]
    rise = torch.where(crosses, end[..., 2:] - start[..., 2:], 1.0)
    cuts = start + (_NEAR - start[..., 2:]) / rise * (end - start)
    return torch.cat((corners, cuts), dim=1), torch.cat((before, crosses), dim=1)


def _enumerate(low, extent) -> _Pairs:
    """All whole points of the boxes `low` + [0, extent), [O, 2] int32 each, box after box."""
    index, offset = _runs(torch.zeros(len(low), dtype=torch.int32), extent.prod(dim=1))
    width = extent[:, 0].clamp(min=1).index_select(0, index)
    left, top = low.T.contiguous().index_select(1, index)
    return _Pairs(index, left + offset % width, top + offset // width)


def _runs(starts, counts):
    """Runs `starts` + [0, counts), one after the other: the number of each member's run, and the members; int32."""
    index = torch.repeat_interleave(torch.arange(len(counts), dtype=torch.int32), counts)
    first = (starts - (counts.cumsum(0) - counts)).int()
    return index, first.index_select(0, index) + torch.arange(index.numel(), dtype=torch.int32)


# Whole subpixel numbers (x, y, 1) to pixel coordinates (u, v, 1): u = (x + 1/2) / SUBPIXELS.
_TO_PIXELS = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, SUBPIXELS]]) / SUBPIXELS


def _columns(maps):
    """[N, k, 3] maps as [3, k, N]."""
    return maps.permute(2, 1, 0).contiguous()


def _directions(columns, index, pairs):
    """[k, P]: the map `index` of columns [3, k, N] applied to each pair's (x, y, 1)."""
    column = columns.index_select(2, index)  # [3, k, P]
    return column[0] * pairs.x.float() + column[1] * pairs.y.float() + column[2]


def _yaw(angle):
    """[O, 3, 3] rotations about +Y that take local to world directions."""
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = torch.stack((c, zero, s, zero, one, zero, -s, zero, c), dim=-1)
    return rows.view(-1, 3, 3)


def _table(values):
    """[N][k] numbers as a float32 table [k, N]."""
    return torch.tensor(values, dtype=torch.float32).T.contiguous()
