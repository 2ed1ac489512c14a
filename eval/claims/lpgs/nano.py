"""The committed scene: how it shows what it never saw, by itself and exported, and what it takes."""

from collections.abc import Iterator

from ...benchmark import Run
from ...drawing import load_committed
from ...exported import ExportedTask, measure_bundles, shown_score
from ...results import Row
from ...scores.storage import splat_bytes
from ...scores.view_likeness import shown_likeness
from .settings import Settings
from .world_fits import FORMATS, WorldScene

NANO = "lpgs-nano"


def measure_nano(settings: Settings, run: Run) -> Iterator[Row]:
    """PSNR and SSIM of held-out pictures, the file's bytes and the parents in it."""
    world = WorldScene(settings.world)
    seen, held_out = (capture.posed for capture in world.captures)
    pipeline = load_committed("lpgs", settings.checkpoints / NANO)
    new, known = (shown_likeness(pipeline, posed) for posed in (held_out, seen))
    for name, unit in (("psnr", "dB"), ("ssim", "SSIM")):
        yield run.row(
            f"nano-{name}", f"The nano scene shows pictures that it never saw ({name.upper()}): {world.words}.",
            measured=getattr(new, name), unit=unit, n=len(held_out), seed=0, rival="pictures that it learned from",
            rival_measured=getattr(known, name),
        )  # fmt: skip
    yield run.row(
        "nano-bytes", "The nano scene takes so many bytes as a file.", measured=len(pipeline.container()), unit="bytes",
        better="lower", hardware=None, rival="its splats as SPZ",
        rival_measured=splat_bytes(pipeline.gaussians(), FORMATS["spz"]),
    )  # fmt: skip
    yield run.row(
        "nano-parents", "So many parents are stored of the nano scene.", measured=pipeline.scene.num_parents,
        unit="parents", better="lower", hardware=None, rival="splats that it unpacks to",
        rival_measured=len(pipeline.gaussians()),
    )  # fmt: skip


def measure_exported(settings: Settings, run: Run) -> Iterator[Row]:
    """PSNR of the nano scene's held-out pictures, unpacked by its bundles, and the bytes of their networks."""
    world = WorldScene(settings.world)
    held_out = world.captures[1].posed
    task = ExportedTask(
        "psnr", NANO, f"the nano scene shows pictures that it never saw (PSNR): {world.words}.",
        lambda pipeline: shown_score(pipeline, held_out), unit="dB",
    )  # fmt: skip
    return measure_bundles(run, [task], settings.checkpoints, settings.back_ends)
