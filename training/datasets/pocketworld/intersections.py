"""Closed-form first hits of rays with the five unit shapes, vectorised over pairs of one ray and one object.

Every function takes `o`, `d`: [3, P] rays in the object's own frame (radius 1, no yaw; `d` need not be unit) and
returns `t`: [P], the smallest positive ray parameter or infinity, and `n`: [3, P], the unit outward normal there.
Components come first because a sum over three rows of P is many times faster than over P rows of three.
"""

import torch
from jaxtyping import Float
from torch import Tensor

CUBE = 0.82
CYLINDER_RADIUS, CYLINDER_HALF = 0.80, 0.95
TORUS_MAJOR, TORUS_MINOR = 0.68, 0.32

Rays = Float[Tensor, "3 pairs"]
Hits = tuple[Float[Tensor, " pairs"], Float[Tensor, "3 pairs"]]


def intersect(shape: str, o: Rays, d: Rays) -> Hits:
    """First hits with the unit shape of that name."""
    return _SHAPES[shape](o, d)


def unit(v: Rays) -> Rays:
    """Vectors of length 1 along `v`."""
    return v / _dot(v, v).sqrt().clamp(min=1e-12)


def sphere(o: Rays, d: Rays) -> Hits:
    a, b, c = _dot(d, d), _dot(o, d), _dot(o, o) - 1.0
    near, far = _quadratic(a, b, c)
    t = _first(near, far)
    return t, _at(o, d, t)


def cube(o: Rays, d: Rays) -> Hits:
    inverse = 1.0 / torch.where(d.abs() < 1e-12, 1e-12, d)
    low, high = (-CUBE - o) * inverse, (CUBE - o) * inverse
    near, axis = torch.minimum(low, high).max(dim=0)
    far = torch.maximum(low, high).amin(dim=0)
    t = torch.where((near <= far) & (near > 0), near, torch.inf)
    n = (torch.arange(3)[:, None] == axis) * -torch.sign(d)
    return t, n


def cylinder(o: Rays, d: Rays) -> Hits:
    flat_o, flat_d = o[::2], d[::2]  # x and z
    near, _ = _quadratic(_dot(flat_d, flat_d), _dot(flat_o, flat_d), _dot(flat_o, flat_o) - CYLINDER_RADIUS**2)
    side = torch.where((near > 0) & (_height(o, d, near).abs() <= CYLINDER_HALF), near, torch.inf)
    cap, up = _disc(o, d, -CYLINDER_HALF * torch.sign(d[1]), CYLINDER_RADIUS)
    t = torch.minimum(side, cap)
    p = _at(o, d, t)
    around = torch.stack((p[0], torch.zeros_like(t), p[2])) / CYLINDER_RADIUS
    return t, torch.where(cap < side, up, around)


def cone(o: Rays, d: Rays) -> Hits:
    # x^2 + z^2 = s^2 with s = (1 - y) / 2 in [0, 1]: apex at y = 1, base of radius 1 at y = -1.
    s, ds = 0.5 * (1.0 - o[1]), -0.5 * d[1]
    flat_o, flat_d = o[::2], d[::2]
    roots = _quadratic(_dot(flat_d, flat_d) - ds * ds, _dot(flat_o, flat_d) - s * ds, _dot(flat_o, flat_o) - s * s)
    side = torch.full_like(s, torch.inf)
    for root in roots:
        good = (root > 0) & (_height(o, d, root).abs() <= 1.0)
        side = torch.where(good & (root < side), root, side)
    base, down = _disc(o, d, -torch.ones_like(s), 1.0)
    base = torch.where(d[1] > 0, base, torch.inf)  # the base is seen from below only
    t = torch.minimum(side, base)
    p = _at(o, d, t)
    slope = torch.stack((p[0], 0.25 * (1.0 - p[1]), p[2]))
    return t, torch.where(base < side, down, unit(slope))


def torus(o: Rays, d: Rays) -> Hits:
    # In double precision, with the ray's parameter s counted from its point nearest the centre: then o.d = 0 and
    # (|p|^2 + R^2 - r^2)^2 = 4 R^2 (x^2 + z^2) has no cubic term: s^4 + p s^2 + q s + w = 0.
    dtype, o, d = o.dtype, o.double(), d.double()
    length = _dot(d, d).sqrt()
    unit = d / length
    start = -_dot(o, unit)
    c = o + start * unit
    m = _dot(c, c)
    k = m + TORUS_MAJOR**2 - TORUS_MINOR**2
    four = 4 * TORUS_MAJOR**2
    p = 2 * k - four * (1 - unit[1] ** 2)
    q = 2 * four * c[1] * unit[1]
    w = k * k - four * (m - c[1] ** 2)
    s = _first_quartic_root(p, q, w, -start)
    t = (s + start) / length
    at = _at(o, d, t)
    ring = torch.stack((at[0], torch.zeros_like(t), at[2]))
    ring = ring / torch.sqrt(_dot(ring, ring)).clamp(min=1e-12) * TORUS_MAJOR
    return t.to(dtype), ((at - ring) / TORUS_MINOR).to(dtype)


def _first_quartic_root(p, q, w, lower):
    """Smallest real root above `lower` of s^4 + p s^2 + q s + w (Ferrari), infinity where there is none."""
    q = torch.where(q.abs() < 1e-9, 1e-9, q)
    u = _largest_cubic_root(2 * p, p * p - 4 * w, -q * q).clamp(min=1e-30)
    a = u.sqrt()
    roots = []
    for sign in (1.0, -1.0):
        half, c = -0.5 * sign * a, 0.5 * (p + u - sign * q / a)
        square = half * half - c
        root = square.clamp(min=0).sqrt()
        roots += [torch.where(square >= 0, half + r, torch.inf) for r in (root, -root)]
    roots = torch.stack(roots)
    for _ in range(2):  # polish
        f = ((roots * roots + p) * roots + q) * roots + w
        slope = (4 * roots * roots + 2 * p) * roots + q
        step = torch.where(slope.abs() > 1e-9, f / slope, 0.0).clamp(-0.01, 0.01)
        roots = torch.where(roots.isfinite(), roots - step, roots)
    return torch.where(roots > lower, roots, torch.inf).amin(dim=0)


def _largest_cubic_root(b, c, d):
    """Largest real root of u^3 + b u^2 + c u + d."""
    shift = b / 3
    third_p = (c - b * shift) / 3
    half_q = (2 * shift**3 - shift * c + d) / 2
    discriminant = half_q**2 + third_p**3
    root = discriminant.clamp(min=0).sqrt()
    single = _cube_root(-half_q + root) + _cube_root(-half_q - root)
    radius = (-third_p).clamp(min=1e-30).sqrt()
    triple = 2 * radius * torch.cos(torch.acos((-half_q / radius**3).clamp(-1, 1)) / 3)
    u = torch.where(discriminant > 0, single, triple) - shift
    for _ in range(3):  # Newton restores the digits lost to cancellation
        slope = (3 * u + 2 * b) * u + c
        u = u - torch.where(slope.abs() > 1e-12, (((u + b) * u + c) * u + d) / slope, 0.0)
    return u


def _cube_root(x):
    return torch.sign(x) * x.abs() ** (1 / 3)


def _quadratic(a, half_b, c):
    """Both roots of a t^2 + 2 half_b t + c, ascending; infinity where they are not real.

    Neither root subtracts near-equal numbers, so that both stay exact as a nears 0 (a ray along a cone's slope).
    """
    square = half_b * half_b - a * c
    root = torch.where(square >= 0, square.clamp(min=0).sqrt(), torch.nan)
    q = -(half_b + torch.copysign(root, half_b))
    first, second = q / torch.where(a.abs() < 1e-12, 1e-12, a), c / q
    near, far = torch.minimum(first, second), torch.maximum(first, second)
    return near.nan_to_num(torch.inf, torch.inf), far.nan_to_num(torch.inf, torch.inf)


def _disc(o, d, height, radius):
    """Hit with the horizontal disc at `height` [P] on the axis; the normal points up for height > 0, else down."""
    t = (height - o[1]) / torch.where(d[1].abs() < 1e-12, 1e-12, d[1])
    p = o[::2] + t * d[::2]
    t = torch.where((t > 0) & (_dot(p, p) <= radius * radius), t, torch.inf)
    n = torch.zeros_like(o)
    n[1] = torch.sign(height)
    return t, n


def _first(near, far):
    return torch.where(near > 0, near, torch.where(far > 0, far, torch.inf))


def _at(o, d, t):
    return o + torch.where(t.isfinite(), t, 0.0) * d


def _height(o, d, t):
    return o[1] + torch.where(t.isfinite(), t, 1e6) * d[1]


def _dot(a, b):
    return (a * b).sum(dim=0)


_SHAPES = {"cube": cube, "sphere": sphere, "cylinder": cylinder, "cone": cone, "torus": torus}
