"""The committed field: how it shows what it never saw, by itself and exported, and what it takes."""

from collections.abc import Iterator

from ....pipelines.scene_cameras import Cameras
from ...benchmark import Run
from ...drawing import load_committed
from ...exported import ExportedTask, measure_bundles, shown_score
from ...figures.beside_truth import draw_beside_truth
from ...results import Row
from ...scores.storage import measure_storage
from ...scores.view_likeness import shown_likeness
from .orbit_fits import Orbit
from .settings import Settings

NANO = "lightspeed-nano"
SHOWN = 6  # pictures of the sheet


def measure_nano(settings: Settings, run: Run) -> Iterator[Row]:
    """PSNR and SSIM of held-out pictures, and the weights' bytes; draws lightspeed-nano.png."""
    orbit = Orbit(settings.world)
    seen, held_out = (capture.posed for capture in orbit.captures)
    pipeline = load_committed("lightspeed", settings.checkpoints / NANO)
    new, known = (shown_likeness(pipeline, posed) for posed in (held_out, seen.select(range(len(held_out)))))
    for name, unit in (("psnr", "dB"), ("ssim", "SSIM")):
        yield run.row(
            f"nano-{name}", f"The nano field shows pictures that it never saw ({name.upper()}): {orbit.words}.",
            measured=getattr(new, name), unit=unit, n=len(held_out), seed=0, rival="pictures that it learned from",
            rival_measured=getattr(known, name),
        )  # fmt: skip
    yield run.row(
        "nano-bytes", "The nano field's weights take so many bytes.", unit="bytes", better="lower", hardware=None,
        measured=measure_storage(settings.checkpoints / NANO).weight_bytes,
    )  # fmt: skip
    some = held_out.select(range(min(SHOWN, len(held_out))))
    cameras = Cameras(some.viewmats, some.Ks, some.width, some.height)
    shown = pipeline(cameras, output_type="pt").images
    draw_beside_truth(run.picture_path("nano"), shown, some.images)


def measure_exported(settings: Settings, run: Run) -> Iterator[Row]:
    """PSNR of the nano field's held-out pictures by its bundles, and the bytes of their networks."""
    orbit = Orbit(settings.world)
    held_out = orbit.captures[1].posed
    task = ExportedTask(
        "psnr", NANO, f"the nano field shows pictures that it never saw (PSNR): {orbit.words}.",
        lambda pipeline: shown_score(pipeline, held_out), unit="dB",
    )  # fmt: skip
    return measure_bundles(run, [task], settings.checkpoints, settings.back_ends)
