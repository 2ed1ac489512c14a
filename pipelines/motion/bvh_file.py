"""Clips as BVH, Biovision's text of a skeleton and its motion, which programs for animation read."""

from pathlib import Path

import numpy as np

from ...hub_models.rendering.quaternions import rotation_matrices
from ..files import write_text
from .joint_rotations import TIPS, Rig
from .skeleton import FRAMES_PER_SECOND, JOINTS, PARENTS

POSITION = "Xposition Yposition Zposition"
ROTATION = "Zrotation Xrotation Yrotation"

LOCKED = 1e-7
"""Cosine of the middle angle below which the first and the last turn about one axis, and the first is taken as 0."""


def write_bvh(path: str | Path, rig: Rig) -> Path:
    """Writes a clip as BVH: metres, degrees, Y up, facing +Z at rest, 20 frames a second.

    Angles are Z, X, Y: a rotation is the matrix product Rz Rx Ry. The pelvis has positions, and so have joints that do
    not stay at their place in their parent's frame (`Rig.loose`). Such a position is the whole translation, OFFSET
    included, as Blender writes and reads it; three.js adds OFFSET to it, and is better served with GLB.

    Raises:
        OSError: it cannot be written, with the path and the reason.
    """
    columns, lines = [], ["HIERARCHY"]
    _declare(0, 0, rig, _angles(rig), lines, columns)
    frames = np.concatenate(columns, 1)
    lines += ["MOTION", f"Frames: {len(rig)}", f"Frame Time: {1 / FRAMES_PER_SECOND:.6f}"]
    lines += [_numbers(frame) for frame in frames]
    return write_text(path, "\n".join(lines) + "\n")


def _declare(joint: int, depth: int, rig: Rig, angles: np.ndarray, lines: list[str], columns: list[np.ndarray]) -> None:
    """Adds a joint and all below it to the lines of the hierarchy, and their channels [frames, ...] to the columns."""
    indent, moves = "\t" * depth, joint == 0 or joint in rig.loose
    lines += [f"{indent}{'JOINT' if depth else 'ROOT'} {JOINTS[joint]}", f"{indent}{{"]
    lines.append(f"{indent}\tOFFSET {_numbers(rig.offsets[joint])}")
    lines.append(f"{indent}\tCHANNELS " + (f"6 {POSITION} {ROTATION}" if moves else f"3 {ROTATION}"))
    columns += [rig.places[:, joint].numpy()] * moves + [angles[:, joint]]
    for child in (child for child, parent in enumerate(PARENTS) if parent == joint):
        _declare(child, depth + 1, rig, angles, lines, columns)
    if joint in TIPS:
        lines += [
            f"{indent}\tEnd Site",
            f"{indent}\t{{",
            f"{indent}\t\tOFFSET {_numbers(TIPS[joint])}",
            f"{indent}\t}}",
        ]
    lines.append(f"{indent}}}")


def _numbers(values) -> str:
    return " ".join(f"{round(float(value), 6) + 0.0:.6f}" for value in values)  # + 0.0: no -0.000000


def _angles(rig: Rig) -> np.ndarray:
    """Degrees about Z, X and Y [frames, 22, 3], each frame's the nearest to those of the frame before.

    With c and s for cosine and sine, the rows of Rz Rx Ry that tell the angles are (.., -sz cx, ..), (.., cz cx, ..)
    and (-cx sy, sx, cx cy).
    """
    matrices = rotation_matrices(rig.rotations).numpy()
    x = np.arcsin(matrices[..., 2, 1].clip(-1, 1))
    locked = np.hypot(matrices[..., 0, 1], matrices[..., 1, 1]) < LOCKED
    z = np.where(locked, 0, np.arctan2(-matrices[..., 0, 1], matrices[..., 1, 1]))
    free_y = np.arctan2(-matrices[..., 2, 0], matrices[..., 2, 2])
    y = np.where(locked, np.arctan2(matrices[..., 0, 2], matrices[..., 0, 0]), free_y)
    same = np.stack([np.stack([z, x, y], -1), np.stack([z + np.pi, np.pi - x, y + np.pi], -1)])
    angles = same[0].copy()
    for frame in range(1, len(rig)):
        before = angles[frame - 1]
        near = same[:, frame] - 2 * np.pi * np.round((same[:, frame] - before) / (2 * np.pi))
        first_is_nearer = np.abs(near[0] - before).sum(-1) <= np.abs(near[1] - before).sum(-1)
        angles[frame] = np.where(first_is_nearer[:, None], near[0], near[1])
    return np.degrees(angles)
