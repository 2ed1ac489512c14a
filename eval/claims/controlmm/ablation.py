"""What each part of ControlMM is for: the paper's ablation on the nano model, with the pelvis controlled."""

from collections.abc import Iterator
from dataclasses import dataclass

from ....pipelines.motion.motion_optimization import OptimizationSteps
from ....pipelines.pipeline_controlmm import ControlMMPipeline
from ...benchmark import Run
from ...drawing import load_committed
from ...results import Row
from .conditions import DENSITIES, at_density, controls_of, errors_of
from .judge import JUDGE, Judge
from .motions import make_motions, world_clips
from .quality import NANO, PELVIS
from .settings import Settings


@dataclass(frozen=True)
class Form:
    """The method without a part.

    Attributes:
        words: what the row calls it.
        branch: whether the control branch, which the logits regulariser trains, has a say.
        optimized: what is optimised: "logits" in each step and then embeddings, "embeddings" alone in as many steps, or
            "nothing".
        controlled: whether anything is asked for.
        fid, centimetres: what the paper has of the form on HumanML3D.
    """

    words: str
    branch: bool
    optimized: str
    controlled: bool
    fid: float
    centimetres: float

    def steps(self, whole: OptimizationSteps, decoding: int) -> OptimizationSteps:
        """How long is optimised, if the whole method does so in each of its `decoding` steps and at the end."""
        if self.optimized == "logits":
            return whole
        return OptimizationSteps(0, whole.each * decoding + whole.last if self.optimized == "embeddings" else 0)


FORMS = {
    "no-control": Form("without control", False, "nothing", False, 0.095, 63.18),
    "no-regulariser": Form("without the control branch", False, "logits", True, 0.142, 2.18),
    "no-optimisation": Form("without optimisation", True, "nothing", True, 0.128, 40.41),
    "embeddings": Form("with embeddings optimised in place of logits", True, "embeddings", True, 0.108, 1.12),
    "full": Form("in full", True, "logits", True, 0.061, 0.98),
}


def measure_ablation(settings: Settings, run: Run) -> Iterator[Row]:
    """Average error and FID of each form, on the same captions, targets and seeds."""
    clips = world_clips(settings.ablated_clips)
    judge, whole = Judge(settings.checkpoints / JUDGE), load_committed("controlmm", settings.checkpoints / NANO)
    controls = controls_of(clips.motions, [at_density(count, PELVIS) for count in DENSITIES.values()])
    for name, form in FORMS.items():
        options = {}
        if form.controlled:
            steps = form.steps(settings.ablated_optimization, whole.defaults.num_inference_steps)
            options = {"controls": controls, "optimization": steps}
        made = make_motions(whole if form.branch else without_branch(whole), clips, settings.batch, **options)
        error, distance = errors_of(made, controls), judge.fid(made, clips.motions)
        what = f"ControlMM {form.words}, the pelvis at its true places in the five densities in turn:"
        common = {"n": len(clips), "seed": 0, "better": "lower"}
        yield run.row(
            f"ablation-{name}-error", f"{what} average error.", measured=100 * error.average,
            interval=tuple(100 * end for end in error.interval), unit="cm", published=form.centimetres, **common,
        )  # fmt: skip
        yield run.row(
            f"ablation-{name}-fid", f"{what} FID ({distance.metric}); the published ones are of HumanML3D.",
            measured=distance.value, unit="FID", published=form.fid, **common,
        )  # fmt: skip


def without_branch(pipeline: ControlMMPipeline) -> ControlMMPipeline:
    """The same networks, and none that is told of targets."""
    alone = type(pipeline)(**{**pipeline.components, "control_branch": None})
    alone.set_progress_bar_config(disable=True)
    return alone
