"""Curves over time that a body can follow: they start and stop without a jolt."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Curve = np.ndarray  # float64 [frames] or [frames, dims]


def ease(progress: Any) -> Any:
    """The path from 0 to 1 of least jerk, flat before 0 and after 1 (Flash and Hogan 1985): 10 u^3 - 15 u^4 + 6 u^5."""
    u = np.clip(progress, 0.0, 1.0)
    return u**3 * (10.0 + u * (6.0 * u - 15.0))


def swung(progress: Any) -> Any:
    """The path from 0 to 1 of least acceleration, for limbs that swing: slower in the middle than `ease`."""
    u = np.clip(progress, 0.0, 1.0)
    return u**2 * (3.0 - 2.0 * u)


def rise(time: Curve, start: float, end: float) -> Curve:
    """From 0 at `start` to 1 at `end`, in seconds."""
    return ease((time - start) / (end - start))


def pulse(time: Curve, start: float, full: float, fading: float, end: float) -> Curve:
    """From 0 at `start` to 1 at `full`, held until `fading`, and back to 0 at `end`."""
    return rise(time, start, full) - rise(time, fading, end)


def keyed(time: Curve, keys: Sequence[tuple[float, Any]]) -> Curve:
    """Through (seconds, value) one after the other, at rest in each; a value is a number or a vector."""
    moments = np.array([moment for moment, _ in keys])
    values = np.array([value for _, value in keys], dtype=float)
    progress = ease((time[:, None] - moments[:-1]) / np.diff(moments))  # [frames, keys - 1]
    return values[0] + progress @ np.diff(values, axis=0)


def thrown(time: Curve, keys: Sequence[tuple[float, float, float]]) -> Curve:
    """Through (seconds, value, velocity) by cubic pieces, flat outside: a flight between two keys is a parabola."""
    moments, values, velocities = np.array(keys).T
    place = np.clip(np.searchsorted(moments, time, side="right") - 1, 0, len(keys) - 2)
    span = np.diff(moments)[place]
    u = np.clip((time - moments[place]) / span, 0.0, 1.0)
    return (
        (1 + 2 * u) * (1 - u) ** 2 * values[place]
        + u * (1 - u) ** 2 * span * velocities[place]
        + u**2 * (3 - 2 * u) * values[place + 1]
        - u**2 * (1 - u) * span * velocities[place + 1]
    )


_SMOOTHING = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0


def smooth(curve: Curve) -> Curve:
    """A [frames] curve averaged over five frames with binomial weights."""
    return np.convolve(np.pad(curve, 2, mode="edge"), _SMOOTHING, mode="valid")


def smooth_below(curve: Curve, ceiling: Curve) -> Curve:
    """`curve`, bent down where it comes near to `ceiling`, which it never exceeds; both are [frames].

    The ceiling is smoothed without rising: the average of three frames is taken of the lowest of three.
    """
    for gather in (lambda window: window.min(axis=1), lambda window: window @ (0.25, 0.5, 0.25)):
        ceiling = gather(np.lib.stride_tricks.sliding_window_view(np.pad(ceiling, 1, mode="edge"), 3))
    return 0.5 * (curve + ceiling - np.hypot(curve - ceiling, _BEND))


_BEND = 0.02  # metres of distance within which two curves count as near
