"""How good nano motions are: of text alone, with the pelvis controlled, and projected onto the same targets."""

from collections.abc import Iterator
from typing import Any

from ...benchmark import Run
from ...drawing import load_committed
from ...results import Row, band
from ...scores.multimodality import multimodality
from .conditions import DENSITIES, at_density, controls_of, errors_of
from .judge import JUDGE, Judge, Scores
from .motions import CaptionedClips, make_motions, world_clips
from .projection import projected
from .settings import Settings

NANO = "controlmm-nano"
PELVIS = (0,)
KEPT_PRECISION = 0.95  # of ground truth's R-precision top 3 that is to be kept
FID_GROWTH, JERK_GROWTH = 1.3, 1.5  # by control, at most
DIVERSITY_BAND = 0.1  # how far diversity may be from ground truth's, as a share of it
TRUTH = {"rival": "ground truth"}
UNCONTROLLED = {"rival": "the same captions and seeds without control"}


def measure_quality(settings: Settings, run: Run) -> Iterator[Row]:
    """FID, R-precision, matching, diversity, multimodality, skating and jerk, by the preset fast where controlled."""
    judge, pipeline = Judge(settings.checkpoints / JUDGE), load_committed("controlmm", settings.checkpoints / NANO)
    clips, others = halves(settings.clips)
    truth = judge.scores(clips.motions, clips, others.motions)
    free_motions = make_motions(pipeline, clips, settings.batch)
    free = judge.scores(free_motions, clips)
    yield from text_rows(run, free, truth)
    yield multimodality_row(settings, run, judge, pipeline, clips)
    controls = controls_of(clips.motions, [at_density(count, PELVIS) for count in DENSITIES.values()])
    controlled = judge.scores(make_motions(pipeline, clips, settings.batch, controls), clips)
    yield from control_rows(run, controlled, free, truth)
    moved = projected(free_motions, controls)
    yield from projection_rows(run, judge.scores(moved, clips), controlled, free, errors_of(moved, controls).average)


def halves(count: int) -> tuple[CaptionedClips, CaptionedClips]:
    """So many clips of the test split, and as many others, to which ground truth itself is compared."""
    clips = world_clips(2 * count)
    return clips[:count], clips[count:]


def text_rows(run: Run, free: Scores, truth: Scores) -> Iterator[Row]:
    """Motions of text alone beside ground truth."""
    what = f"Motions that the nano model makes of text alone, captions of the motion world's test split, by {JUDGE}:"
    common = {"n": free.n, "seed": 0, **TRUTH}
    yield run.row(
        "fid", f"{what} FID to the true motions of the same captions ({free.fid.metric}); beside it that of other true "
        "motions.", measured=free.fid.value, rival_measured=truth.fid.value, unit="FID", better="lower", **common,
    )  # fmt: skip
    for top in (1, 2, 3):
        name = f"top_{top}"
        own, true = getattr(free.precision, name), getattr(truth.precision, name)
        target = {"target": KEPT_PRECISION * true} if top == 3 else {}
        yield run.row(
            f"r-precision-top-{top}", f"{what} R-precision, how often a caption finds its motion among the nearest "
            f"{top} of 32.", measured=own, rival_measured=true, unit="share", **{**common, "n": free.precision.n},
            **target,
        )  # fmt: skip
    yield run.row(
        "matching-score", f"{what} distance of a caption from its motion.", unit="distance", better="lower",
        measured=free.precision.matching_score, rival_measured=truth.precision.matching_score,
        **{**common, "n": free.precision.n},
    )  # fmt: skip
    yield run.row(
        "diversity", f"{what} distance of pairs, within {DIVERSITY_BAND:.0%} of ground truth's.", unit="distance",
        better="within", target=band(truth.diversity, DIVERSITY_BAND), measured=free.diversity,
        rival_measured=truth.diversity, **common,
    )  # fmt: skip
    yield run.row(
        "foot-skating", f"{what} share of steps in which a foot on the floor slides at more than 0.5 m/s.",
        measured=free.skating, rival_measured=truth.skating, unit="share", better="lower", **common,
    )  # fmt: skip
    yield run.row(
        "peak-jerk", f"{what} largest jerk of a clip, mean over clips.", measured=free.peak_jerk,
        rival_measured=truth.peak_jerk, unit="m/s^3", better="lower", **common,
    )  # fmt: skip


def multimodality_row(settings: Settings, run: Run, judge: Judge, pipeline: Any, clips: CaptionedClips) -> Row:
    """How far apart motions of one caption are."""
    some, embedded = clips[: settings.texts], []
    for number in range(settings.motions):
        made = make_motions(pipeline, some, settings.batch, seed=number * settings.texts)
        embedded.append(judge.embed_motions(made))
    apart = multimodality([list(motions) for motions in zip(*embedded, strict=True)])
    return run.row(
        "multimodality", f"Motions that the nano model makes of one caption lie so far apart, {settings.motions} of "
        f"each of {len(some)}, by {JUDGE}.", measured=apart, unit="distance", n=len(some), seed=0,
    )  # fmt: skip


def control_rows(run: Run, controlled: Scores, free: Scores, truth: Scores) -> Iterator[Row]:
    """Motions with the pelvis controlled beside those without."""
    what = (
        "Motions of the same captions whose pelvis is at its true places, at 1, 2 or 5 frames or 25 % or 100 % of them "
        "in turn, by the preset fast:"
    )
    common = {"n": controlled.n, "seed": 0}
    yield run.row(
        "controlled-fid", f"{what} FID ({controlled.fid.metric}) is at most {FID_GROWTH} times that without control.",
        measured=controlled.fid.value, rival_measured=free.fid.value, target=FID_GROWTH * free.fid.value, unit="FID",
        better="lower", **common, **UNCONTROLLED,
    )  # fmt: skip
    yield run.row(
        "controlled-r-precision-top-3", f"{what} R-precision among the nearest 3 of 32.", unit="share",
        measured=controlled.precision.top_3, rival_measured=truth.precision.top_3,
        target=KEPT_PRECISION * truth.precision.top_3, **{**common, "n": controlled.precision.n}, **TRUTH,
    )  # fmt: skip
    yield run.row(
        "controlled-foot-skating", f"{what} share of steps in which a foot on the floor slides at more than 0.5 m/s.",
        measured=controlled.skating, rival_measured=free.skating, unit="share", better="lower", **common,
        **UNCONTROLLED,
    )  # fmt: skip
    yield run.row(
        "controlled-jerk", f"{what} largest jerk of a clip, mean over clips, is at most {JERK_GROWTH} times that "
        "without control.", measured=controlled.peak_jerk, rival_measured=free.peak_jerk,
        target=JERK_GROWTH * free.peak_jerk, unit="m/s^3", better="lower", **common, **UNCONTROLLED,
    )  # fmt: skip


def projection_rows(run: Run, moved: Scores, controlled: Scores, free: Scores, error: float) -> Iterator[Row]:
    """Motions of text alone that were moved onto the targets, beside those that ControlMM made."""
    what = (
        "Motions of text alone, moved afterwards by the least change that puts the pelvis exactly at the same places "
        "(ProjFlow's idea without its flow):"
    )
    common = {"n": moved.n, "seed": 0, "better": "lower"}
    ours = {"rival": "ControlMM by the preset fast"}
    yield run.row(
        "projection-error", f"{what} average distance from the targets.", measured=error, unit="m", **common,
    )  # fmt: skip
    yield run.row(
        "projection-fid", f"{what} FID; without any control it is {free.fid.value:.3g}.", measured=moved.fid.value,
        rival_measured=controlled.fid.value, unit="FID", **common, **ours,
    )  # fmt: skip
    yield run.row(
        "projection-foot-skating", f"{what} share of steps in which a foot on the floor slides.",
        measured=moved.skating, rival_measured=controlled.skating, unit="share", **common, **ours,
    )  # fmt: skip
    yield run.row(
        "projection-jerk", f"{what} largest jerk of a clip, mean over clips.", measured=moved.peak_jerk,
        rival_measured=controlled.peak_jerk, unit="m/s^3", **common, **ours,
    )  # fmt: skip
