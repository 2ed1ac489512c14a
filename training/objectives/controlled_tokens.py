"""Masked consistency: learning to find codes whose motion goes where joints shall be (ControlMM, arXiv 2410.10780)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ...pipelines.motion.motion_controls import control_features
from ...pipelines.motion.motion_features import joints_of_features
from .masked_tokens import BETAS, WEIGHT_DECAY, CodedMotion, corrupted, hide


class ControlledMotion(NamedTuple):
    """One batch.

    Attributes:
        coded: codes and captions.
        joints: of the clips, in metres [batch, frames, 22, 3].
        mask: where joints are controlled [batch, frames, 22], at least once a clip.
    """

    coded: CodedMotion
    joints: Float[Tensor, "batch frames 22 3"]
    mask: Bool[Tensor, "batch frames 22"]


class ControlledTokens:
    """An objective (see `pipelines.fitting.loop.Objective`): a branch learns, all else is frozen.

    Its loss is `code_weight` x cross-entropy of all codes + `joint_weight` x mean distance (L1) of the controlled
    joints of the motion that is expected under the logits.

    Args:
        branch: what learns; called as `ControlMMControlBranch`.
        transformer: whose trunk it adds to.
        autoencoder: decodes codes; `denormalized` gives features.
        controlled: makes `ControlledMotion` of a batch.
        learning_rate: of AdamW.
        code_weight: 0.1 for the pelvis alone, 0.5 for all joints.
        joint_weight: 0.9 and 0.5.
    """

    def __init__(
        self,
        branch: nn.Module,
        transformer: nn.Module,
        autoencoder: nn.Module,
        controlled: Callable[[Any, torch.Generator], ControlledMotion],
        learning_rate: float,
        code_weight: float = 0.5,
        joint_weight: float = 0.5,
    ) -> None:
        self.parts: dict[str, nn.Module] = {"branch": branch}
        self.transformer, self.autoencoder, self.controlled = transformer, autoencoder, controlled
        self.learning_rate, self.code_weight, self.joint_weight = learning_rate, code_weight, joint_weight
        self.control_joints = tuple(branch.config.control_joints)

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parts[part].parameters(), self.learning_rate, BETAS, weight_decay=WEIGHT_DECAY)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        coded, joints, mask = self.controlled(batch, generator)
        transformer, codes = self.transformer, self.transformer.config.num_codes
        ids, hidden = coded.ids[..., 0].clamp(min=0), hide(coded.padding, generator)
        shown = corrupted(ids, hidden, codes, generator)
        device = next(transformer.parameters()).device
        given = (ids, shown, coded.padding, coded.text, joints, mask)
        ids, shown, padding, text, joints, mask = (x.to(device) for x in given)
        with torch.no_grad():
            now = self._joints(self._latents(shown, codes), padding)
            control = control_features(now, joints, mask, self.control_joints)
        logits = transformer(shown, text, padding, self.parts[part], control).float()
        expected = self.autoencoder.expect(torch.softmax(logits, -1))
        away = (self._joints(expected, padding) - joints).abs()[mask].mean()
        known = F.cross_entropy(logits[~padding], ids[~padding])
        return self.code_weight * known + self.joint_weight * away, {"codes": known.item(), "metres": away.item()}

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None

    def _latents(self, ids: Tensor, codes: int) -> Tensor:
        """Of the first layer; what is masked is the mean code."""
        known = self.autoencoder.embed(ids.clamp(max=codes - 1)[..., None])
        return torch.where((ids < codes)[..., None], known, self.autoencoder.mask_latent)

    def _joints(self, latents: Tensor, padding: Tensor) -> Tensor:
        return joints_of_features(self.autoencoder.denormalized(self.autoencoder.decode(latents, padding)).float())


def random_control(
    valid: Bool[Tensor, "batch frames"], joints: tuple[int, ...], cross: float, generator: torch.Generator
) -> Bool[Tensor, "batch frames 22"]:
    """Where a training step controls: one joint at 1 to all frames, or cells of all joints and frames.

    Args:
        valid: True at frames of the clip.
        joints: of which one is drawn for a clip.
        cross: chance that a clip gets cells of all of these joints instead, as many as 1 to all.
        generator: of the CPU.
    """
    batch, frames = valid.shape
    cells = valid[:, :, None].expand(batch, frames, len(joints))
    chosen = torch.randint(len(joints), (batch,), generator=generator)
    alone = F.one_hot(chosen, len(joints)).bool()[:, None]
    crossed = torch.rand(batch, generator=generator) < cross
    allowed = cells & (alone | crossed[:, None, None])
    scores = torch.rand(cells.shape, generator=generator).masked_fill(~allowed, torch.inf).flatten(1)
    counts = (torch.rand(batch, generator=generator) * allowed.sum((1, 2))).round().clamp(min=1)
    ranks = scores.argsort(1).argsort(1)
    taken = (ranks < counts[:, None]).view(cells.shape) & allowed
    mask = torch.zeros(batch, frames, 22, dtype=torch.bool)
    mask[:, :, list(joints)] = taken
    return mask
