"""Which frames of padded motion clips belong to them: what every score of joints counts."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...pipelines.inputs import require
from ...pipelines.motion.skeleton import JOINTS


def valid_frames(
    joints: Float[Tensor, "batch frames 22 3"], lengths: Sequence[int], shortest: int = 1
) -> Bool[Tensor, "batch frames"]:
    """True for the frames of each clip, False for its padding, which may hold anything.

    Args:
        joints: in metres, Y up.
        lengths: frames of each clip.
        shortest: fewest frames that a clip must have.

    Raises:
        ValueError: joints of another shape, a length out of range, or a coordinate inside a clip that is not finite.
    """
    shape = list(joints.shape)
    if len(shape) != 4 or shape[2:] != [len(JOINTS), 3] or 0 in shape[:2]:
        raise ValueError(f"joints must be [batch, frames, {len(JOINTS)}, 3], not {shape}.")
    lengths = [int(length) for length in lengths]
    require(len(lengths) == shape[0], "lengths", lengths, f"{shape[0]} numbers, one for each clip")
    for length in lengths:
        require(shortest <= length <= shape[1], "a length", length, f"from {shortest} to {shape[1]} frames")
    valid = torch.arange(shape[1], device=joints.device) < torch.tensor(lengths, device=joints.device)[:, None]
    if not joints[valid].isfinite().all():
        raise ValueError("joints must be finite, but hold NaN or infinity inside a clip.")
    return valid
