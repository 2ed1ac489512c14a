"""What an export keeps of SnapGen's pictures: bundles of the nano model, named by the judge beside the original."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from ..pipelines.export.export_bundle import export_pipeline
from ..pipelines.export.runtime import load_bundle
from ..pipelines.pipeline_snapgen import SnapGenPipeline
from ..training.datasets.pocketworld.scene import SEEN_PAIRS
from .benchmark import new_row
from .drawing_snapgen import NANO, draw_pairs, load_nano
from .image_text_encoder import ImageTextEncoder
from .intervals import wilson_interval
from .naming import PairJudge, count_right
from .results import Row
from .storage import measure_storage

PRECISIONS = ("fp32", "int8")
RUNTIMES = {"onnx": "ONNX Runtime", "executorch": "ExecuTorch"}

row = partial(new_row, "snapgen")


class ExportSettings(Protocol):
    """What the measurement reads of the benchmark's settings.

    Attributes:
        checkpoints: folder with snapgen-nano and clip-nano-judge.
        back_ends: whose bundles draw, of `RUNTIMES`.
        exported_pictures_a_pair: drawn of each (color, shape) pair seen in training, with the seeds 0, 1, 2...
    """

    checkpoints: Path
    back_ends: tuple[str, ...]
    exported_pictures_a_pair: int


def measure_exported(settings: ExportSettings, output: Path) -> Iterator[Row]:
    """How often the judge names what bundles draw, and the bytes of their networks.

    The original draws in the same run, with the prompts, seeds, steps and guidance of the bundles.
    """
    judge = PairJudge(ImageTextEncoder.from_folder(settings.checkpoints / "clip-nano-judge"))
    count = settings.exported_pictures_a_pair
    original, of = _named_right(judge, load_nano(settings), count)
    with TemporaryDirectory(prefix="pocket-exported-") as scratch:
        for back_end in settings.back_ends:
            sizes = {}
            for precision in PRECISIONS:
                bundle = _export(settings, back_end, precision, Path(scratch))
                sizes[precision] = measure_storage(bundle).weight_bytes / 1e6
                right, of = _named_right(judge, load_bundle(bundle), count)
                yield row(
                    "exported", f"exported-{back_end}-{precision}-seen-pairs",
                    f"Exported in {precision} and run by {RUNTIMES[back_end]}, the nano model draws the colour and "
                    "shape asked for, as the judge names them among all fifty, pairs seen in training.",
                    measured=right / of, unit="share", interval=wilson_interval(right, of), n=of, seed=0,
                    rival="the model itself in float32, same prompts and seeds", rival_measured=original / of,
                )  # fmt: skip
            yield row(
                "exported", f"exported-{back_end}-int8-bytes",
                f"The networks of the nano model for {RUNTIMES[back_end]} are smaller in int8 than in fp32.",
                measured=sizes["int8"], unit="MB", better="lower", hardware=None,
                rival=f"the same for {RUNTIMES[back_end]} in fp32", rival_measured=sizes["fp32"],
            )  # fmt: skip


def _export(settings: ExportSettings, back_end: str, precision: str, folder: Path) -> Path:
    model = str((settings.checkpoints / NANO).absolute())
    return export_pipeline("snapgen", model, back_end, precision, folder / f"{back_end}-{precision}")


def _named_right(judge: PairJudge, pipeline: SnapGenPipeline, count: int) -> tuple[int, int]:
    """Pictures named as asked, and all pictures."""
    drawn = draw_pairs(pipeline, SEEN_PAIRS, count)
    return count_right(judge.name(drawn.flatten(0, 1)), list(SEEN_PAIRS) * count)
