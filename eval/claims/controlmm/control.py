"""How exactly nano motions do what is asked: by density and joint, across joints, and under Motius' conditions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from ....pipelines.motion.skeleton import CONTROL_JOINTS, JOINTS
from ...benchmark import Run
from ...drawing import load_committed
from ...results import Row
from ...scores.control_error import ControlError
from .conditions import DENSITIES, POSES, Condition, across_joints, at_density, controls_of, errors_of
from .judge import JUDGE, Judge, mean_peak_jerk
from .motions import CaptionedClips, Motions, make_motions, world_clips
from .quality import JERK_GROWTH, NANO, UNCONTROLLED
from .settings import Settings

AVERAGE = 0.011  # metres, at most, by the preset accurate
PELVIS_PUBLISHED, SIX_PUBLISHED = 0.0098, 0.0072  # metres, on HumanML3D
CROSS_DENSITY = "25-percent"
MOTIUS = {
    "first-frame": 3.56, "first-fifth": 3.75, "first-and-last": 4.33, "key-frames": 4.79, "wrists-sparse": 11.23,
    "wrists-dense": 9.88, "feet-sparse": 9.01, "feet-dense": 8.05,
}  # fmt: skip
"""Centimetres, as Motius measured its own model on 4,012 clips of HumanML3D."""
TRUE_PLACES = "targets are the true motion's, on captions of the motion world's test split"


@dataclass(frozen=True)
class Cell:
    """Clips that were made under one condition.

    Attributes:
        motions: that were made.
        error: how far they are from their targets.
    """

    motions: Motions
    error: ControlError


class Cells:
    """Makes the same captions again and again under other conditions.

    Args:
        settings: where the weights are.
        count: clips of a cell.
    """

    def __init__(self, settings: Settings, count: int) -> None:
        self.clips: CaptionedClips = world_clips(count)
        pipeline = load_committed("controlmm", settings.checkpoints / NANO)
        self.make = partial(make_motions, pipeline, self.clips, settings.batch)

    def measure(self, conditions: Sequence[Condition], optimization: str) -> Cell:
        """A cell under one condition, or under several in turn."""
        controls = controls_of(self.clips.motions, conditions)
        motions = self.make(controls, optimization=optimization)
        return Cell(motions, errors_of(motions, controls))


def measure_control(settings: Settings, run: Run) -> Iterator[Row]:
    """Errors by density and joint and across joints by the preset fast, and by joint by the preset accurate."""
    cells = Cells(settings, settings.controlled_clips)
    by_density = {}
    for density, count in DENSITIES.items():
        found = {joint: cells.measure([at_density(count, [joint])], "fast").error for joint in CONTROL_JOINTS}
        for joint, error in found.items():
            yield run.row(
                f"control-{density}-{slug(joint)}",
                f"{words(joint)} at {density_words(density)} by the preset fast is so far from its targets; "
                f"{TRUE_PLACES}.", measured=error.average, interval=error.interval, **metres(error.n),
            )  # fmt: skip
        by_density[density] = list(found.values())
    for density, errors in by_density.items():
        yield from failure_rows(run, f"control-{density}", f"of six joints at {density_words(density)}, fast", errors)
    across = cells.measure([across_joints(DENSITIES[CROSS_DENSITY])], "fast").error
    what = f"of one of 63 sets of the six joints at {density_words(CROSS_DENSITY)}, fast"
    yield run.row(
        "control-cross", f"Average error {what}; {TRUE_PLACES}.", measured=across.average, interval=across.interval,
        **metres(across.n),
    )  # fmt: skip
    yield from failure_rows(run, "control-cross", what, [across])
    yield from accurate_rows(run, cells)


def accurate_rows(run: Run, cells: Cells) -> Iterator[Row]:
    """The preset accurate, each clip at one of the five densities in turn, and what it does to jerk."""
    densities = list(DENSITIES.values())
    found = {
        joint: cells.measure([at_density(count, [joint]) for count in densities], "accurate")
        for joint in CONTROL_JOINTS
    }  # fmt: skip
    errors = {joint: cell.error for joint, cell in found.items()}
    what = "by the preset accurate, the five densities in turn"
    for joint, error in errors.items():
        aims = {"target": AVERAGE, "published": PELVIS_PUBLISHED} if joint == CONTROL_JOINTS[0] else {}
        yield run.row(
            f"accurate-{slug(joint)}", f"{words(joint)} {what}, is so far from its targets; {TRUE_PLACES}.",
            measured=error.average, interval=error.interval, **metres(error.n), **aims,
        )  # fmt: skip
    yield run.row(
        "accurate-six-joints", f"Mean over six joints of the average error {what}; {TRUE_PLACES}.",
        measured=fmean(error.average for error in errors.values()), target=AVERAGE, published=SIX_PUBLISHED,
        **metres(sum(error.n for error in errors.values())),
    )  # fmt: skip
    yield from failure_rows(run, "accurate", f"of six joints {what}", list(errors.values()), target=0.0)
    own, free = mean_peak_jerk(found[CONTROL_JOINTS[0]].motions), mean_peak_jerk(cells.make())
    yield run.row(
        "accurate-jerk", f"Largest jerk of a clip with its pelvis controlled {what}, mean over clips, is at most "
        f"{JERK_GROWTH} times that without control.", measured=own, rival_measured=free, target=JERK_GROWTH * free,
        unit="m/s^3", better="lower", n=len(cells.clips), seed=0, **UNCONTROLLED,
    )  # fmt: skip


def measure_conditions(settings: Settings, run: Run) -> Iterator[Row]:
    """Errors and FID under the conditions of Motius' board, by the preset fast."""
    cells = Cells(settings, settings.condition_clips)
    judge, truth = Judge(settings.checkpoints / JUDGE), cells.clips.motions
    free = judge.fid(cells.make(), truth)
    for name, (what, condition) in POSES.items():
        cell = cells.measure([condition], "fast")
        error, distance = cell.error, judge.fid(cell.motions, truth)
        yield run.row(
            f"condition-{name}", f"With {what} given, joints are so far from there by the preset fast; {TRUE_PLACES}. "
            "Published is Motius' own model on HumanML3D.", measured=100 * error.average,
            interval=tuple(100 * end for end in error.interval), published=MOTIUS[name],
            **{**metres(error.n), "unit": "cm"},
        )  # fmt: skip
        yield run.row(
            f"condition-{name}-fid", f"FID of the same motions, {what} given ({distance.metric}).",
            measured=distance.value, rival_measured=free.value, unit="FID", better="lower", n=error.n, seed=0,
            **UNCONTROLLED,
        )  # fmt: skip


def failure_rows(
    run: Run, id: str, what: str, errors: Sequence[ControlError], target: float | None = None
) -> Iterator[Row]:
    """Trajectory and location error at 50 cm over cells of as many clips each."""
    common = {
        "unit": "share", "better": "lower", "n": sum(error.n for error in errors), "seed": 0, "target": target,
    }  # fmt: skip
    yield run.row(
        f"{id}-trajectory", f"Share of clips {what}, that miss a target by more than 50 cm.",
        measured=fmean(error.trajectory_50 for error in errors), **common,
    )  # fmt: skip
    yield run.row(
        f"{id}-location", f"Share of targets {what}, that are missed by more than 50 cm, mean over clips.",
        measured=fmean(error.location_50 for error in errors), **common,
    )  # fmt: skip


def metres(count: int) -> dict[str, object]:
    """Values of a row of a distance of so many clips."""
    return {"unit": "m", "better": "lower", "n": count, "seed": 0}


def density_words(density: str) -> str:
    """Such as "5 frames" or "25 % of the frames"."""
    number, _, percent = density.partition("-")
    return f"{number} % of the frames" if percent else f"{number} frame" + "s" * (number != "1")


def words(joint: int) -> str:
    """Such as "The left wrist"."""
    return f"The {JOINTS[joint].replace('_', ' ')}"


def slug(joint: int) -> str:
    """A joint's name as a part of ids."""
    return JOINTS[joint].replace("_", "-")
