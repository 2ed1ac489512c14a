"""The committed field beside a radiance field of a hash grid, which could have taught it: likeness and cost."""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from ....hub_models.radiance_lightspeed import LightSpeedRadianceField
from ....pipelines.fitting.loop import as_json
from ....pipelines.fitting.teacher_lightspeed import SceneBall, fit_teacher
from ....pipelines.inputs import PosedImages
from ...benchmark import Run
from ...drawing import load_committed
from ...protocol import protocol_hash
from ...results import Row
from ...scores.view_likeness import Likeness, likeness_of, shown_likeness
from ...timing.contest import Contender
from ...timing.cost_rows import CostClaim, cost_rows, measure_costs
from .nano import NANO
from .orbit_fits import Orbit
from .settings import Settings

OURS, TEACHER = "LightSpeed", "hash-grid teacher"
BUILDERS = f"{__package__}.contenders"
MEMORY_GB = 1.5


def measure_teacher(settings: Settings, run: Run) -> Iterator[Row]:
    """PSNR and SSIM of held-out pictures by both, and seconds and memory of a picture, turn by turn.

    An interrupted fit goes on; it lies beside the record of the costs until all is measured.
    """
    orbit = Orbit(settings.world)
    seen, held_out = (capture.posed for capture in orbit.captures)
    about = as_json({"world": asdict(settings.world), "teacher": asdict(settings.teacher)})
    folder = run.record_path().parent / f"{run.measurement}-{protocol_hash(about)[:8]}"
    teacher = fit_teacher(seen, SceneBall.all_around(seen), settings.teacher, folder, progress=False)
    teacher.eval().save_pretrained(folder / "teacher")
    pipeline = load_committed("lightspeed", settings.checkpoints / NANO)
    ours, theirs = shown_likeness(pipeline, held_out), rendered_likeness(teacher, held_out)
    rival = (
        f"{TEACHER}, {sum(value.numel() for value in teacher.parameters()):,} parameters, learned from true depths too"
    )
    for name, unit in (("psnr", "dB"), ("ssim", "SSIM")):
        yield run.row(
            f"teacher-{name}",
            f"The nano field shows pictures that it never saw ({name.upper()}), beside a radiance field after "
            f"{settings.teacher.steps:,} steps of {settings.teacher.rays:,} rays: {orbit.words}.",
            measured=getattr(ours, name), unit=unit, n=len(held_out), seed=0, hardware=None,
            rival=rival, rival_measured=getattr(theirs, name),
        )  # fmt: skip
    yield from _cost_rows(settings, run, held_out, folder / "teacher")
    shutil.rmtree(folder)


def rendered_likeness(teacher: LightSpeedRadianceField, posed: PosedImages) -> Likeness:
    """How like pictures is what a radiance field shows from their cameras."""
    cameras = zip(posed.viewmats.split(1), posed.Ks.split(1), strict=True)
    return likeness_of((teacher.render(*camera, posed.height, posed.width)[0][0] for camera in cameras), posed.images)


def _cost_rows(settings: Settings, run: Run, posed: PosedImages, weights: Path) -> Iterator[Row]:
    camera = {"viewmat": posed.viewmats[0].tolist(), "K": posed.Ks[0].tolist(), "side": posed.height}
    contenders = [
        Contender(
            name=name, build=f"{BUILDERS}:{build}", folder=place.parent, arguments={"weights": place.name, **camera},
            memory_gb=MEMORY_GB,
        )
        for name, build, place in (
            (OURS, "build_field", settings.checkpoints / NANO), (TEACHER, "build_teacher", weights),
        )
    ]  # fmt: skip
    costs = measure_costs(run, contenders, settings.repeats, settings.threads)
    what = f"A picture of {posed.width}x{posed.height} pixels by the nano field in torch on the CPU"
    for row in cost_rows(run, costs, [
        CostClaim(id="teacher-seconds", claim=f"{what} takes so many seconds.", quantity="seconds", rival=TEACHER),
        CostClaim(
            id="teacher-speedup", claim=f"{what} takes so many times less than by its {TEACHER}.", quantity="speedup",
            rival=TEACHER,
        ),
        CostClaim(
            id="teacher-memory", quantity="memory", rival=TEACHER,
            claim=f"{what} is made in a process that holds at most so much memory.",
        ),
    ]):  # fmt: skip
        yield replace(row, size="nano")
