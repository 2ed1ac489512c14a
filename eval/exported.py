"""What an export keeps of a model: its bundles do the model's own task beside it, precision by precision."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from diffusers import DiffusionPipeline

from ..pipelines.export.export_bundle import export_pipeline
from ..pipelines.export.runtime import load_bundle
from ..pipelines.inputs import PosedImages
from .benchmark import Run
from .drawing import load_committed
from .intervals import wilson_interval
from .results import Row
from .scores.storage import measure_storage
from .scores.view_likeness import shown_likeness

PRECISIONS = ("fp32", "int8")
RUNTIMES = {"onnx": "ONNX Runtime", "executorch": "ExecuTorch"}


class Score(NamedTuple):
    """How well a task was done, its 95 % interval, and the number of pictures it was taken on; None of what failed."""

    value: float | None
    interval: tuple[float, float] | None
    pictures: int | None

    @classmethod
    def of(cls, right: int, pictures: int) -> "Score":
        """The share of so many pictures that are `right`, with Wilson's interval."""
        return cls(right / pictures, wilson_interval(right, pictures), pictures)


@dataclass(frozen=True)
class ExportedTask:
    """What bundles of some weights must do.

    Attributes:
        name: of the rows, `exported-<back end>-<precision>-<name>`.
        weights: name of the checkpoint, such as "snapgen-nano".
        claim: goes on from "Exported in ... and run by ..., ".
        measure: how well a pipeline does it; the original and its bundles get the same inputs and seeds.
        unit: of what it measures, of which more is better.
    """

    name: str
    weights: str
    claim: str
    measure: Callable[[DiffusionPipeline], Score]
    unit: str = "share"


def measure_bundles(
    run: Run, tasks: Sequence[ExportedTask], checkpoints: Path, back_ends: Sequence[str]
) -> Iterator[Row]:
    """A row for each task, back end and precision beside the original, and the bytes of all networks of a back end.

    A bundle that cannot be exported, loaded or used has rows without a number that say why.

    Args:
        run: of the measurement "exported" of a method.
        tasks: of its weights.
        checkpoints: folder that holds them.
        back_ends: out of `RUNTIMES`.
    """
    slug = run.benchmark.slug
    places = {task.name: (checkpoints / task.weights).absolute() for task in tasks}
    originals = {task.name: task.measure(load_committed(slug, places[task.name])) for task in tasks}
    for back_end in back_ends:
        megabytes: dict[str, list[float | None]] = {precision: [] for precision in PRECISIONS}
        reasons = ""
        for precision in PRECISIONS:
            for task in tasks:
                found = _measure_bundle(slug, task, places[task.name], back_end, precision)
                megabytes[precision].append(found.megabytes)
                reasons += found.reason
                yield run.row(
                    f"exported-{back_end}-{precision}-{task.name}",
                    f"Exported in {precision} and run by {RUNTIMES[back_end]}, {task.claim}{found.reason}",
                    measured=found.score.value, unit=task.unit, interval=found.score.interval, n=found.score.pictures,
                    seed=0, rival="the model itself in float32, same inputs and seeds",
                    rival_measured=originals[task.name].value,
                )  # fmt: skip
        int8, fp32 = (None if reasons else sum(megabytes[precision]) for precision in ("int8", "fp32"))
        yield run.row(
            f"exported-{back_end}-int8-bytes",
            f"The nano networks for {RUNTIMES[back_end]} are smaller in int8 than in fp32.{reasons}",
            measured=int8, unit="MB", better="lower", hardware=None,
            rival=f"the same for {RUNTIMES[back_end]} in fp32", rival_measured=fp32,
        )  # fmt: skip


def shown_score(pipeline: DiffusionPipeline, posed: PosedImages) -> Score:
    """PSNR of what a pipeline of one scene shows from the cameras of pictures."""
    return Score(shown_likeness(pipeline, posed).psnr, None, len(posed))


class _Bundle(NamedTuple):
    """What a bundle scores and weighs; of one that failed nothing, and why."""

    score: Score
    megabytes: float | None
    reason: str = ""


def _measure_bundle(slug: str, task: ExportedTask, place: Path, back_end: str, precision: str) -> _Bundle:
    with TemporaryDirectory(prefix="pocket-exported-") as scratch:
        try:
            bundle = export_pipeline(slug, str(place), back_end, precision, Path(scratch) / "bundle")
            return _Bundle(task.measure(load_bundle(bundle)), measure_storage(bundle).weight_bytes / 1e6)
        except (ValueError, RuntimeError, OSError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")[:500]
            return _Bundle(Score(None, None, None), None, f" {task.name} in {precision} failed: {reason}.")
