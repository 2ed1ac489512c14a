"""What is timed of ControlMM and of motion diffusion: one batch of clips, in the contender's own process."""

import torch

from ....hub_models.autoencoder_controlmm import MotionRVQVAE
from ....hub_models.control_branch_controlmm import ControlMMControlBranch
from ....hub_models.length_estimator_controlmm import ControlMMLengthEstimator
from ....hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer
from ....pipelines.motion.motion_controls import MotionControls
from ....pipelines.motion.skeleton import FRAMES_PER_SECOND, JOINTS
from ....pipelines.pipeline_controlmm import ControlMMPipeline
from ...timing.contender_process import Work, held_memory_mb
from ...timing.cost_rows import IMPORTS
from .diffusion_networks import NETWORKS, TEXT_WIDTH, Diffusion

PELVIS_HEIGHT, WALKING = 0.92, 1.0  # metres, and metres a second


def build_controlmm(model: str, optimization: str | None, batch: int, length: int) -> Work:
    """Clips by ControlMM's pipeline of random weights; controlled at the pelvis in every frame, or not if None.

    Prompts come as embeddings: the text encoder is CLIP's for all contenders.
    """
    imports = held_memory_mb()
    pipeline = random_pipeline(model)
    draw = torch.Generator().manual_seed(0)
    asked = {} if optimization is None else {"controls": pelvis_way(length), "optimization": optimization}
    embeds = torch.randn(batch, pipeline.transformer.config.text_width, generator=draw)
    return Work(lambda: pipeline(prompt_embeds=embeds, length=length, generator=draw, **asked), {IMPORTS: imports})


def build_diffusion(network: str, steps: int, gradients: int, batch: int, length: int) -> Work:
    """Some steps of motion diffusion of random weights, each with so many gradients towards the pelvis's targets."""
    imports = held_memory_mb()
    torch.manual_seed(0)
    way, model = pelvis_way(length), NETWORKS[network]().eval().requires_grad_(False)
    diffusion = Diffusion(model, torch.randn(batch, TEXT_WIDTH), way.targets, way.mask)
    return Work(lambda: diffusion.run(steps, gradients), {IMPORTS: imports})


def random_pipeline(model: str) -> ControlMMPipeline:
    """The pipeline of a preset with random weights, without a text encoder."""
    torch.manual_seed(0)
    kinds = {
        "autoencoder": MotionRVQVAE, "transformer": ControlMMTransformer,
        "residual_transformer": ControlMMResidualTransformer, "control_branch": ControlMMControlBranch,
        "length_estimator": ControlMMLengthEstimator,
    }  # fmt: skip
    parts = {name: kind.from_preset(model).eval().requires_grad_(False) for name, kind in kinds.items()}
    pipeline = ControlMMPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pelvis_way(length: int) -> MotionControls:
    """A pelvis that goes straight ahead, at every frame."""
    targets, mask = torch.zeros(length, len(JOINTS), 3), torch.zeros(length, len(JOINTS), dtype=torch.bool)
    targets[:, 0, 1] = PELVIS_HEIGHT
    targets[:, 0, 2] = torch.arange(length) * WALKING / FRAMES_PER_SECOND
    mask[:, 0] = True
    return MotionControls(targets, mask)
