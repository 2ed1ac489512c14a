"""From places of joints to rotations of bones."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..inputs import require
from .forward_kinematics import local_rotations
from .rotations import about_vertical, product, shortest_arc, turned_about_vertical
from .skeleton import JOINTS, PARENTS, rest_directions


def rotations_of(joints: Float[Tensor, "*batch 22 3"]) -> Float[Tensor, "*batch 22 4"]:
    """Rotations that `forward_kinematics.joints_of` turns into the bones' directions again.

    Places say where a bone points and not how it is twisted: each is turned the shortest way from its rest direction
    as a person who faces where this one faces would hold it, and the pelvis turns about the vertical only. So the
    rotations of the bones stay the same when the person faces elsewhere.

    Args:
        joints: metres in the world, Y up; bones of any lengths but 0.

    Returns:
        Unit quaternions w x y z, the one at a joint seen from its parent's bone.

    Raises:
        ValueError: for a wrong shape.
    """
    angles = heading(joints)
    at_home = turned_about_vertical(bones_of(joints), -angles[..., None])
    turned = product(about_vertical(angles)[..., None, :], shortest_arc(rest_directions().to(joints), at_home))
    return local_rotations(torch.cat([about_vertical(angles)[..., None, :], turned[..., 1:, :]], -2))


def bones_of(joints: Float[Tensor, "*batch 22 3"]) -> Float[Tensor, "*batch 22 3"]:
    """Vectors from parent to joint; 0 of the pelvis.

    Raises:
        ValueError: for a wrong shape.
    """
    _check_shape(joints)
    return joints - joints[..., (0, *PARENTS[1:]), :]


def facing(joints: Float[Tensor, "*batch 22 3"]) -> Float[Tensor, "*batch 2"]:
    """Where a person faces, by the hips and the shoulders: x and z of the direction square to both and to the vertical.

    Its length is 1 for one who stands upright and less for one who lies on a side; it is 0 where the line from left to
    right is vertical and nothing is faced.

    Raises:
        ValueError: for a wrong shape.
    """
    _check_shape(joints)
    left_hip, right_hip, left_shoulder, right_shoulder = (joints[..., joint, :] for joint in (1, 2, 16, 17))
    across = F.normalize(left_hip - right_hip + left_shoulder - right_shoulder, dim=-1)
    return torch.stack([-across[..., 2], across[..., 0]], -1)


def heading(joints: Float[Tensor, "*batch 22 3"]) -> Float[Tensor, "*batch"]:
    """The angle about the vertical by which a person is turned from +Z, in radians: a quarter turn is +X.

    Raises:
        ValueError: for a wrong shape.
    """
    return torch.atan2(*facing(joints).unbind(-1))


def _check_shape(joints: Tensor) -> None:
    require(joints.shape[-2:] == (len(JOINTS), 3), "joints", list(joints.shape), f"[..., {len(JOINTS)}, 3]")
