"""Where few bits break a UNet of separable convolutions, rounded without training: GenEval, output and bytes."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from ....pipelines.quantization_bitsfusion import quantize_folder
from ...benchmark import Run
from ...drawing import load_committed
from ...results import Row
from .pictures import Raters
from .settings import Settings

SEPARABLE = "snapgen"
FULL = f"{SEPARABLE}-nano"


def measure_separable(settings: Settings, run: Run) -> Iterator[Row]:
    """The nano model of separable convolutions in half precision, and packed at fewer and fewer bits."""
    raters = Raters(settings, settings.ladder_images)
    source = settings.checkpoints / FULL
    full = raters.rate(load_committed(SEPARABLE, source))
    yield full.row(run, "separable-geneval-full", f"GenEval of {FULL}, whose convolutions are separable,")
    rival = {"rival": "half precision", "rival_measured": full.geneval.overall}
    for bits in settings.separable_bits:
        with TemporaryDirectory(prefix="separable-") as name:
            folder = Path(name) / FULL
            done = quantize_folder(source, folder, bits)
            drawn = raters.rate(load_committed(SEPARABLE, folder))
        yield drawn.row(
            run, f"separable-geneval-{bits}", f"GenEval of {FULL} packed at {bits} bits without training", **rival
        )
        yield run.row(
            f"separable-error-{bits}", f"Error of {FULL}'s UNet packed at {bits} bits: of its answer to noise and "
            "random text, as root of the sum of squares over that of the answer.",
            measured=done.output_error, unit="share", better="lower",
        )  # fmt: skip
        yield run.row(
            f"separable-bytes-{bits}", f"Bytes of {FULL}'s UNet packed at {bits} bits, its first and last layer at 8.",
            measured=done.bytes_after, unit="bytes", better="lower", rival="half precision",
            rival_measured=done.bytes_before,
        )  # fmt: skip
