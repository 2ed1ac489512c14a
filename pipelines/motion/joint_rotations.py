"""A skeleton that animation files can move, found from places of joints: bones at rest, and rotations of joints."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...hub_models.rendering.quaternions import quaternions_of
from ..inputs import require
from .forward_kinematics import local_rotations
from .rotations import inverse, product, rotated, shortest_arc
from .skeleton import JOINTS, PARENTS

PELVIS, CHEST = 0, 9
AXES = {PELVIS: (1, 2, 3), CHEST: (13, 14, 12)}
"""Joints whose turn three bones tell: a left and a right one, which lie across, and one that goes up."""

SPINE = {3: 1 / 3, 6: 2 / 3}
"""Joints between pelvis and chest, with how far they share in the turn from one to the other."""

T_POSE = {
    4: (0, -1, 0), 5: (0, -1, 0), 7: (0, -1, 0), 8: (0, -1, 0), 10: (0, -0.5, 0.866), 11: (0, -0.5, 0.866),
    6: (0, 1, 0), 9: (0, 1, 0), 15: (0, 0.6, 0.8), 18: (1, 0, 0), 19: (-1, 0, 0), 20: (1, 0, 0), 21: (-1, 0, 0),
}  # fmt: skip
"""Directions of bones at rest, facing +Z, as programs for animation expect them; the others are a clip's averages.

With arms at the side for the pose at rest, an arm held up would lie opposite to it, where a rotation has no axis.
"""

TIPS = {10: (0, 0, 0.05), 11: (0, 0, 0.05), 15: (0, 0.09, 0.01), 20: (0.1, 0, 0), 21: (-0.1, 0, 0)}
"""Where feet, head and hands end at rest, in metres from their last joint."""

SHORTEST_BONE = 1e-3
"""Metres below which a bone has no direction."""

TURNED_BACK = -0.9
"""Cosine of the angle from rest below which the axis of the shortest rotation is unsteady: 154 degrees."""

STIFF = 1e-4
"""Metres by which a joint may leave its place in the parent's frame and still counts as fixed there. The longest way
from the pelvis has seven bones, so that a file without such moves is right to a millimetre."""


@dataclass(frozen=True)
class Rig:
    """A clip as animation programs hold it: each joint is placed and turned in the frame of its parent.

    Attributes:
        offsets: places of the joints at rest in their parent's frame [22, 3] in metres, a T-pose that faces +Z; 0 of
            the pelvis.
        rotations: unit quaternions w x y z in the parent's frame [frames, 22, 4], of the pelvis in the world. One turns
            everything below its joint. Signs are such that neighbours in time lie close together.
        places: of the joints in their parent's frame [frames, 22, 3] in metres, of the pelvis in the world. Those of
            joints that are not in `loose` are their offsets.
        loose: joints that do not stay where they are in their parent's frame, as where bones change their length.
    """

    offsets: Float[Tensor, "22 3"]
    rotations: Float[Tensor, "frames 22 4"]
    places: Float[Tensor, "frames 22 3"]
    loose: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rotations)


def rig_of(joints: Float[Tensor, "frames 22 3"]) -> Rig:
    """Finds rotations of joints that move their bones as a clip does.

    A bone tells where it points, but not how it is twisted. Pelvis and chest take their twist from hips and collars,
    the spine shares it out, and limbs are turned from their parent's frame on the shortest way. Where that is unsteady,
    as the bone has turned right back or has no length, the twist goes on evenly from the frame before to the one after.

    Args:
        joints: places in the world in metres, Y up, floating point.

    Returns:
        A rig in double precision on the CPU, without gradients, whose joints are those of the clip to a millimetre.

    Raises:
        ValueError: for a wrong shape, no frame, or values that are not finite.
    """
    joints = check_joints(joints).detach().cpu().double()
    bones = joints - joints[:, [max(parent, 0) for parent in PARENTS]]
    lengths = bones.norm(dim=-1, keepdim=True)
    directions = torch.where(lengths < SHORTEST_BONE, 0, bones / lengths.clamp(min=SHORTEST_BONE))
    world = {joint: _turn_of_axes(*(bones[:, bone] for bone in axes)) for joint, axes in AXES.items()}
    offsets = _rest(bones, directions, world)
    for joint, parent in enumerate(PARENTS):
        if joint not in world:
            start = _between(world[PELVIS], world[CHEST], SPINE[joint]) if joint in SPINE else world[parent]
            child = PARENTS.index(joint) if joint in PARENTS else None
            world[joint] = start if child is None else _turned(start, offsets[child], directions[:, child])
    turned = torch.stack([world[joint] for joint in range(len(JOINTS))], 1)
    places = torch.cat([joints[:, :1], rotated(bones[:, 1:], inverse(turned[:, PARENTS[1:]]))], 1)
    strayed = (places - offsets).norm(dim=-1).amax(0) > STIFF
    loose = tuple(joint for joint in range(1, len(JOINTS)) if strayed[joint])
    fixed = [joint for joint in range(1, len(JOINTS)) if not strayed[joint]]
    places[:, fixed] = offsets[fixed]
    return Rig(offsets, _steady_signs(local_rotations(turned)), places, loose)


def check_joints(joints: Float[Tensor, "frames 22 3"]) -> Float[Tensor, "frames 22 3"]:
    """`joints`, when they are finite places of 22 joints in one frame or more.

    Raises:
        ValueError: they are not.
    """
    if not isinstance(joints, Tensor) or not joints.is_floating_point():
        kind = joints.dtype if isinstance(joints, Tensor) else type(joints).__name__
        raise ValueError(f"joints must be a floating point tensor, not {kind}.")
    right = joints.ndim == 3 and joints.shape[1:] == (len(JOINTS), 3) and len(joints) > 0
    require(right, "joints", list(joints.shape), f"[frames, {len(JOINTS)}, 3] with at least one frame")
    if not joints.isfinite().all():
        raise ValueError("joints must be finite, but hold NaN or infinity.")
    return joints


def _rest(bones: Tensor, directions: Tensor, world: dict[int, Tensor]) -> Tensor:
    """Offsets at rest [22, 3]: directions of `T_POSE`, and averages around pelvis and chest; lengths are averages."""
    pelvis, chest = (inverse(world[joint]) for joint in (PELVIS, CHEST))
    offsets = bones.new_zeros(len(JOINTS), 3)
    for joint, parent in enumerate(PARENTS[1:], 1):
        if parent in AXES:
            offsets[joint] = rotated(bones[:, joint], pelvis if parent == PELVIS else chest).mean(0)
        else:
            average = rotated(directions[:, joint], pelvis if joint in SPINE else chest).mean(0)
            direction = bones.new_tensor(T_POSE[joint]) if joint in T_POSE else average
            offsets[joint] = F.normalize(direction, dim=0) * bones[:, joint].norm(dim=-1).mean()
    return offsets


def _turn_of_axes(left: Tensor, right: Tensor, up: Tensor) -> Tensor:
    """World rotations [frames, 4] of a frame whose X goes across from right to left and whose Y goes up."""
    across, up = left - right, F.normalize(up, dim=-1)
    x = F.normalize(across, dim=-1)
    forward = torch.linalg.cross(x, up)
    sure = (across.norm(dim=-1) > SHORTEST_BONE) & (forward.norm(dim=-1) > 0.1)
    z = F.normalize(forward, dim=-1)
    return _filled(quaternions_of(torch.stack([x, torch.linalg.cross(z, x), z], -1)), sure)


def _turned(start: Tensor, offset: Tensor, direction: Tensor) -> Tensor:
    """World rotations [frames, 4] that take a bone's offset to its direction, the shortest way from `start`."""
    has_direction = direction.any(-1)
    before = F.normalize(rotated(offset, start), dim=-1)
    sure = ((before * direction).sum(-1) > TURNED_BACK) & has_direction
    shortest = product(inverse(start), product(shortest_arc(before, direction), start))
    steady = product(start, _filled(shortest, sure))
    exact = product(shortest_arc(rotated(offset, steady), direction), steady)
    return torch.where(has_direction[:, None], exact, steady)


def _filled(rotations: Tensor, sure: Tensor) -> Tensor:
    """`rotations` [frames, 4], with those that are not sure [frames] put between the sure ones around them."""
    known = sure.nonzero()[:, 0]
    if not len(known):
        return rotations.new_tensor([1, 0, 0, 0]).expand_as(rotations)
    frames = torch.arange(len(rotations), device=rotations.device)
    following = torch.searchsorted(known, frames)
    after = known[following.clamp(max=len(known) - 1)]
    before = known[torch.where(sure, following, following - 1).clamp(min=0, max=len(known) - 1)]
    share = (frames - before) / (after - before).clamp(min=1)
    return _between(rotations[before], rotations[after], share.clamp(0, 1)[:, None])


def _between(first: Tensor, second: Tensor, share: float | Tensor) -> Tensor:
    """Unit quaternions part of the way from the first to the second."""
    nearer = torch.where((first * second).sum(-1, keepdim=True) < 0, -second, second)
    return F.normalize(torch.lerp(first, nearer, torch.as_tensor(share, dtype=first.dtype)), dim=-1)


def _steady_signs(rotations: Tensor) -> Tensor:
    """The same rotations [frames, 22, 4], each by the quaternion of the sign that is nearer to the frame before."""
    turns = (rotations[1:] * rotations[:-1]).sum(-1, keepdim=True) < 0
    signs = torch.where(turns, -1.0, 1.0).cumprod(0)
    return rotations * torch.cat([torch.ones_like(rotations[:1, :, :1]), signs.to(rotations)])
