"""The rival without training: motions of text alone, moved afterwards so that every target is met exactly.

ProjFlow's idea, projection onto linear constraints, without its flow: of all ways to move the joints that meet the
targets, the one that changes velocities along time and bones the least.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ....pipelines.motion.motion_controls import MotionControls
from ....pipelines.motion.motion_features import features_of
from ....pipelines.motion.skeleton import JOINTS, PARENTS
from .motions import Motions

SMOOTHNESS = 100.0  # how much a change of acceleration counts beside a change of a bone, both in metres
STAYING = 1e-3  # how much it counts that a joint is moved at all, which makes the way unique


def projected(motions: Motions, controls: list[MotionControls]) -> Motions:
    """Motions whose joints are at the targets.

    Features are those of the moved joints. For its own last frame a clip needs another one, which goes on as it was
    going.
    """
    joints = [moved(*pair) for pair in zip(motions.joints, controls, strict=True)]
    return Motions([features_of_all(own) for own in joints], joints)


def features_of_all(joints: Float[Tensor, "frames 22 3"]) -> Float[Tensor, "frames 263"]:
    """Features of every frame."""
    return features_of(torch.cat([joints, 2 * joints[-1:] - joints[-2:-1]]))


def moved(joints: Float[Tensor, "frames 22 3"], controls: MotionControls) -> Float[Tensor, "frames 22 3"]:
    """The joints, moved to the targets by the least change.

    The change c minimises `SMOOTHNESS` |second differences along time|^2 + |differences along bones|^2 + `STAYING`
    |c|^2 under c = target - joint where the mask says so. With the quadratic form Q and A picking what is controlled,
    c = Q^-1 A' (A Q^-1 A')^-1 (target - joint); Q is diagonal in the products of two small bases.
    """
    time, speeds = basis(second_differences(len(joints)))
    body, stretches = basis(bone_differences())
    spread = 1 / (SMOOTHNESS * speeds[:, None] + stretches + STAYING)  # Q^-1 in the bases, [frames, 22]
    frame, joint = controls.mask.nonzero(as_tuple=True)
    picked = (time[frame][:, :, None] * body[joint][:, None]).flatten(1)  # A in the bases, [cells, frames * 22]
    wanted = (controls.targets - joints)[frame, joint].double()
    forces = torch.linalg.solve((picked * spread.flatten()) @ picked.mT, wanted)
    change = (spread.flatten()[:, None] * (picked.mT @ forces)).unflatten(0, spread.shape)
    change = torch.einsum("ft,jb,tbx->fjx", time, body, change)
    return (joints.double() + change).to(joints.dtype)


def basis(differences: Float[Tensor, "rows n"]) -> tuple[Float[Tensor, "n n"], Float[Tensor, " n"]]:
    """Orthonormal vectors, as columns, in which |differences @ c|^2 is diagonal, and its diagonal."""
    values, vectors = torch.linalg.eigh(differences.mT @ differences)
    return vectors, values.clamp(min=0)


def second_differences(frames: int) -> Float[Tensor, "frames-2 frames"]:
    """Takes values along time to their changes of change."""
    return torch.eye(frames, dtype=torch.float64).diff(n=2, dim=0)


def bone_differences() -> Float[Tensor, "bones 22"]:
    """Takes values of joints to their changes along bones."""
    identity = torch.eye(len(JOINTS), dtype=torch.float64)
    return identity[1:] - identity[list(PARENTS[1:])]
