"""Motion diffusion of the published sizes, for timing beside ControlMM: MDM (arXiv 2209.14916) and OmniControl
(arXiv 2310.08580), written anew and with random weights.

What matters to time is here: every step runs the network with the prompt and without it, and OmniControl, in each step,
moves its estimate towards the targets by gradients through the joints.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ....hub_models.layers.positional_encoding import sinusoidal_table
from ....hub_models.layers.post_norm_transformer import PostNormTransformer
from ....pipelines.motion.motion_features import NUM_FEATURES, joints_of_features
from ....pipelines.motion.skeleton import JOINTS

WIDTH, LAYERS, HEADS, FF_WIDTH, TEXT_WIDTH = 512, 8, 4, 1024, 512
STEPS = 1000
GUIDANCE_SCALE = 2.5  # classifier-free, of both papers
LAST_STEPS = 10  # OmniControl: steps t < 10, before which it takes few gradients and in which it takes many
FEW_GRADIENTS, MANY_GRADIENTS = 10, 500


class MDM(nn.Module):
    """MDM: a transformer encoder over the frames of noisy motion that predicts clean motion.

    Time and prompt are one token in front. 17.9 million parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.motion_in = nn.Linear(NUM_FEATURES, WIDTH)
        self.text_in = nn.Linear(TEXT_WIDTH, WIDTH)
        self.time_in = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.trunk = PostNormTransformer(LAYERS, WIDTH, HEADS, FF_WIDTH, dropout=0.0)
        self.motion_out = nn.Linear(WIDTH, NUM_FEATURES)

    def forward(
        self,
        motion: Float[Tensor, "batch frames features"],
        step: int,
        text: Float[Tensor, "batch text_width"],
        hint: Float[Tensor, "batch frames coordinates"],
    ) -> Float[Tensor, "batch frames features"]:
        """Clean motion of noisy motion; `hint` is not looked at."""
        x = self._tokens(motion, step, text)
        return self.motion_out(self.trunk(x)[-1][:, 1:])

    def _tokens(self, motion: Tensor, step: int, text: Tensor) -> Float[Tensor, "batch 1+frames width"]:
        front = self.time_in(sinusoidal_table(STEPS, WIDTH)[step]) + self.text_in(text)
        x = torch.cat([front[:, None], self.motion_in(motion)], 1)
        return x + sinusoidal_table(*x.shape[1:])


class OmniControl(MDM):
    """OmniControl: MDM and its realism branch, a copy that reads where joints shall be and adds to every layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hint_in = nn.Sequential(nn.Linear(3 * len(JOINTS), WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.branch = PostNormTransformer(LAYERS, WIDTH, HEADS, FF_WIDTH, dropout=0.0)
        self.layers_out = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))

    def forward(
        self,
        motion: Float[Tensor, "batch frames features"],
        step: int,
        text: Float[Tensor, "batch text_width"],
        hint: Float[Tensor, "batch frames coordinates"],
    ) -> Float[Tensor, "batch frames features"]:
        x = self._tokens(motion, step, text)
        told = x + nn.functional.pad(self.hint_in(hint), (0, 0, 1, 0))
        added = [out(h) for out, h in zip(self.layers_out, self.branch(told), strict=True)]
        return self.motion_out(self.trunk(x, residuals=added)[-1][:, 1:])


NETWORKS = {"mdm": MDM, "omnicontrol": OmniControl}


class Diffusion:
    """Ancestral sampling of clean-motion predictions with the cosine schedule of 1,000 steps.

    Args:
        network: of `NETWORKS`.
        text: embeddings of prompts.
        targets: of joints in metres, the same for every clip.
        mask: where they count.
    """

    def __init__(
        self,
        network: MDM,
        text: Float[Tensor, "batch text_width"],
        targets: Float[Tensor, "frames 22 3"],
        mask: Bool[Tensor, "frames 22"],
    ) -> None:
        self.network, self.text, self.targets, self.mask = network, text, targets, mask[..., None]
        angles = (torch.arange(STEPS + 1) / STEPS + 0.008) / 1.008 * torch.pi / 2
        self.kept = angles.cos().square().clamp(min=1e-5)  # of the signal's variance, before each step and after all
        hint = torch.where(self.mask, targets, 0).flatten(1)
        self.hint = hint.expand(2 * len(text), *hint.shape)

    @torch.no_grad()
    def run(self, steps: int, gradients: int) -> Float[Tensor, "batch frames features"]:
        """The last `steps` steps of sampling from noise, each with so many gradients towards the targets."""
        motion = torch.randn(len(self.text), len(self.targets), NUM_FEATURES)
        for step in reversed(range(steps)):
            motion = self.step(motion, step, gradients)
        return motion

    def step(self, motion: Tensor, step: int, gradients: int) -> Float[Tensor, "batch frames features"]:
        """From t = `step` + 1 to t = `step`."""
        clean = self._guided(motion, step)
        before, after = self.kept[step + 1], self.kept[step]
        noise = 1 - before / after
        mean = (after.sqrt() * noise * clean + (before / after).sqrt() * (1 - after) * motion) / (1 - before)
        variance = noise * (1 - after) / (1 - before)
        mean = self._towards_targets(mean, gradients, variance)
        return mean + variance.sqrt() * torch.randn_like(mean)

    def _guided(self, motion: Tensor, step: int) -> Tensor:
        """With the prompt and without it, in one batch."""
        text = torch.cat([torch.zeros_like(self.text), self.text])
        free, told = self.network(motion.repeat(2, 1, 1), step, text, self.hint).chunk(2)
        return free + GUIDANCE_SCALE * (told - free)

    def _towards_targets(self, motion: Tensor, gradients: int, variance: Tensor) -> Tensor:
        size = variance * 20 / self.mask.sum()  # of a step: smaller with more targets, as OmniControl has it
        for _ in range(gradients):
            with torch.enable_grad():
                motion = motion.detach().requires_grad_(True)
                off = torch.where(self.mask, joints_of_features(motion) - self.targets, 0)
                (slope,) = torch.autograd.grad(off.square().sum(), motion)
            motion = motion.detach() - size * slope
        return motion
