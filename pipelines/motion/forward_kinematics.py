"""From rotations of bones to places of joints."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..inputs import require
from .rotations import inverse, product, rotated
from .skeleton import JOINTS, PARENTS, bone_lengths, rest_directions


def joints_of(rotations: Float[Tensor, "*batch 22 4"], root: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 22 3"]:
    """Places of the joints of HumanML3D's uniform skeleton.

    Args:
        rotations: quaternions w x y z of any length but 0. The one at a joint turns the bone from its parent to it,
            seen from that parent's bone: 0 at the left knee leaves the shin in line with the thigh, and a turn at the
            left hip takes the whole leg along. The pelvis has no bone: its rotation turns the whole body in the world.
            All identities are the skeleton at rest, arms down, facing +Z.
        root: the pelvis in the world, in metres, Y up.

    Returns:
        Metres in the world; differentiable.

    Raises:
        ValueError: for a wrong shape.
    """
    turned = world_rotations(rotations)
    require(root.shape[-1:] == (3,), "root", list(root.shape), "[..., 3]")
    offsets = rest_directions().to(root) * bone_lengths().to(root)[:, None]
    return chained(rotated(offsets, turned.to(root)), root)


def world_rotations(rotations: Float[Tensor, "*batch 22 4"]) -> Float[Tensor, "*batch 22 4"]:
    """Unit quaternions of the bones in the world, of those that are each seen from the parent's bone.

    Raises:
        ValueError: for a wrong shape.
    """
    require(rotations.shape[-2:] == (len(JOINTS), 4), "rotations", list(rotations.shape), f"[..., {len(JOINTS)}, 4]")
    local = F.normalize(rotations, dim=-1).unbind(-2)
    turned = [local[0]]
    for parent, rotation in zip(PARENTS[1:], local[1:], strict=True):
        turned.append(product(turned[parent], rotation))
    return torch.stack(turned, -2)


def local_rotations(turned: Float[Tensor, "*batch 22 4"]) -> Float[Tensor, "*batch 22 4"]:
    """The reverse of `world_rotations`: each unit quaternion of the world as seen from that of its parent."""
    above = turned[..., PARENTS[1:], :]
    return torch.cat([turned[..., :1, :], product(inverse(above), turned[..., 1:, :])], -2)


def chained(bones: Float[Tensor, "*batch 22 3"], root: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 22 3"]:
    """Places of joints whose bones, vectors from parent to joint in the world, are hung on one another from the root.

    The first bone is the pelvis's, which has none: it is not read.
    """
    root, _ = torch.broadcast_tensors(root, bones[..., 0, :])
    joints = [root]
    for parent, bone in zip(PARENTS[1:], bones.unbind(-2)[1:], strict=True):
        joints.append(joints[parent] + bone)
    return torch.stack(joints, -2)
