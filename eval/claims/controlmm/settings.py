"""How much is measured of ControlMM."""

from dataclasses import dataclass
from pathlib import Path

from ....pipelines.motion.motion_optimization import OPTIMIZATIONS, OptimizationSteps
from ...benchmark import CHECKPOINTS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults are those of the committed rows.

    Attributes:
        checkpoints: folder with controlmm-nano and controlmm-nano-judge.
        model: preset of the networks whose costs are measured.
        repeats: timed calls of each contender.
        threads: of each contender.
        timed_steps: of a diffusion that takes many more, from which its whole time is reckoned.
        length: frames of the clips that are timed.
        batches: numbers of clips at once whose cost is compared, at `length`.
        lengths: frames whose cost is compared, of one clip.
        batch: clips of the motion world that are made at once.
        clips: of the test split whose quality is judged.
        texts: whose multimodality is measured.
        motions: of each of them.
        controlled_clips: of each cell of control error.
        condition_clips: of each of the conditions of whole poses and limbs.
        ablated_clips: of each form of the method.
        ablated_optimization: of the forms that optimise.
    """

    checkpoints: Path = CHECKPOINTS
    model: str = "paper"
    repeats: int = 3
    threads: int = 2
    timed_steps: int = 10
    length: int = 196
    batches: tuple[int, ...] = (1, 4, 16)
    lengths: tuple[int, ...] = (40, 100, 196)
    batch: int = 16
    clips: int = 500
    texts: int = 32
    motions: int = 30
    controlled_clips: int = 32
    condition_clips: int = 128
    ablated_clips: int = 128
    ablated_optimization: OptimizationSteps = OPTIMIZATIONS["balanced"]
