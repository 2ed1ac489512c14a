"""Rate and distortion on real scenes: LPGS beside the formats that splats are stored in, and beside honest rivals.

Each file is unpacked, and pictures of it are compared with those of the source from cameras that no codec looked from.
"""

import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ....hub_models.container_lpgs import decode_scene
from ....hub_models.rendering.gaussians import Gaussians
from ....hub_models.rendering.pruning import prune
from ....hub_models.rendering.splat_budget import encode_within
from ....hub_models.rendering.splat_codec import decode_splats
from ....hub_models.rendering.splat_files import read_splats, write_splats
from ....pipelines.fitting.run_folder import RunFolder
from ....pipelines.fitting.scene_folder_lpgs import fit_splats
from ....pipelines.fitting.scene_lpgs import LPGSFit
from ....pipelines.fitting.splat_views import SplatViews
from ....pipelines.scene_cameras import UP
from ....pipelines.splat_compression import cameras_around, importance_of
from ....training.plot import import_figure
from ....training.training_record import seconds_of
from ...benchmark import Run
from ...figures.lines import Chart, Line, draw_charts
from ...results import Row
from ...scores.view_likeness import splat_likeness
from ...timing.record import Record
from .scenes import BIKER, SplatScene
from .settings import Settings

OURS, PRUNED, CODED = "lpgs", "pruned-spz", "splatz"
FORMATS = {"spz": ".spz", "sog": ".sog", "compressed-ply": ".compressed.ply"}
WORDS = {
    OURS: "LPGS", PRUNED: "SPZ of the most important splats", CODED: ".splatz (pruned, quantised, entropy-coded)",
    "spz": "SPZ", "sog": "SOG", "compressed-ply": "compressed PLY",
}  # fmt: skip
FIT_SAVES_EVERY = 200  # steps
PRUNING_STEPS = 1000  # in as many steps the share of splats that stay rises to all
TARGETS = {(BIKER.name, 897_000): (29.0, 2.0)}  # dB, and dB above pruned SPZ of equal bytes

Made = TypeVar("Made")


@dataclass(frozen=True)
class Coded:
    """A file of a scene: its bytes, what it unpacks to, and the seconds to make and to unpack it."""

    bytes: int
    gaussians: Gaussians
    encode_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class Point:
    """What was measured of a file.

    Attributes:
        codec: that made it.
        budget: bytes that it might take; None for a format that takes what it takes.
        bytes: that it takes.
        gaussians: that it unpacks to.
        psnr, ssim: of its pictures, see `splat_likeness`.
        encode_seconds, decode_seconds: to make it, and to have Gaussians of it again.
        draw_seconds: for a picture of them.
    """

    codec: str
    budget: int | None
    bytes: int
    gaussians: int
    psnr: float
    ssim: float
    encode_seconds: float
    decode_seconds: float
    draw_seconds: float


Points = Mapping[tuple[str, int | None], Point]
"""By codec and budget."""


def measure_curve(settings: Settings, run: Run) -> Iterator[Row]:
    """PSNR and SSIM against bytes of every scene; draws lpgs-curve.png.

    Files that an interrupted run has measured are not made again, and fits go on. They lie in `Source.fit_folder` until
    all rows are made.
    """
    import_figure()
    drafts, charts = run.record_path().parent, []
    sources = [Source(scene, settings, drafts) for scene in settings.scenes]
    for source in sources:
        points = measured_points(source, run.record_path(source.scene.name))
        for name in FORMATS:
            yield from _format_rows(run, source, points[name, None])
        for budget in source.scene.fits:
            yield from _budget_rows(run, source, points, budget)
        charts.append(_chart(source, points))
    draw_charts(run.picture_path("curve"), charts)
    for folder in (source.fit_folder(budget) for source in sources for budget in source.scene.fits):
        shutil.rmtree(folder, ignore_errors=True)  # of files that an earlier run measured there may be none


class Source:
    """A scene that is compressed, with the cameras from which that is judged.

    Args:
        scene: which.
        settings: how much is measured.
        drafts: folder where fits lie while the measurement lasts.

    Raises:
        MissingData: the scene is not here.
    """

    def __init__(self, scene: SplatScene, settings: Settings, drafts: Path) -> None:
        self.scene, self.settings, self.drafts = scene, settings, drafts
        self.whole = scene.read()

    @cached_property
    def held_out(self) -> list[SplatViews]:
        """Its pictures over black from cameras that have no say in what is kept."""
        _, circles = cameras_around(self.whole, UP, self.settings.curve_side)
        return [SplatViews.of_splats(self.whole, circle) for circle in circles]

    @property
    def views(self) -> int:
        """Number of held-out pictures."""
        return sum(map(len, self.held_out))

    @cached_property
    def importance(self) -> tuple[Float[Tensor, " gaussians"], float]:
        """What each splat paints, as `pocket convert --budget-mb` weighs it, and the seconds of weighing."""
        weighed, _ = cameras_around(self.whole, UP)
        return _timed(lambda: importance_of(self.whole, weighed))

    def fit_folder(self, max_bytes: int) -> Path:
        """Where a fit of so many bytes lies, whole or to go on with."""
        return self.drafts / f"fit-{self.scene.name}-{max_bytes}"

    def measure(self, codec: str, budget: int | None) -> Point:
        """Makes a file and compares its pictures with those of the source."""
        coded = CODECS[codec](self, budget)
        alike = splat_likeness(coded.gaussians, self.held_out)
        return Point(
            codec, budget, coded.bytes, len(coded.gaussians), *alike, coded.encode_seconds, coded.decode_seconds,
            self._seconds_a_picture(coded.gaussians),
        )  # fmt: skip

    @torch.no_grad()
    def _seconds_a_picture(self, gaussians: Gaussians) -> float:
        start = perf_counter()
        for circle in self.held_out:
            for view in range(len(circle)):
                circle.draw(gaussians, view)
        return (perf_counter() - start) / self.views


def measured_points(source: Source, path: Path) -> dict[tuple[str, int | None], Point]:
    """All files of a scene, kept in the record at `path`: rivals of LPGS may take exactly as many bytes as it took."""
    scene, settings = source.scene, source.settings
    sides = {"fit_side": settings.fit_side, "curve_side": settings.curve_side}
    about = {**asdict(scene), "bytes": list(scene.bytes), "fits": {str(size): n for size, n in scene.fits.items()}}
    record = Record(path, {"scene": about, "regression_steps": settings.regression_steps, **sides})
    found = {(point.codec, point.budget): point for point in record.read(Point)}

    def point(codec: str, budget: int | None) -> Point:
        if (codec, budget) not in found:
            found[codec, budget] = source.measure(codec, budget)
            record.write(found.values())
        return found[codec, budget]

    for name in FORMATS:
        point(name, None)
    taken = [point(OURS, budget).bytes for budget in scene.fits]
    for budget in (*taken, *scene.bytes):
        for codec in (PRUNED, CODED):
            point(codec, budget)
    return found


# --- codecs ---------------------------------------------------------------------------------------------------


def _fit(source: Source, max_bytes: int) -> Coded:
    """A fit, from where an earlier run left it; its seconds are those of its steps, whenever they were made."""
    folder, settings = source.fit_folder(max_bytes), source.settings
    how = LPGSFit(
        max_bytes=max_bytes, steps=source.scene.fits[max_bytes], regression_steps=settings.regression_steps,
        save_every=FIT_SAVES_EVERY,
    )  # fmt: skip
    made, _ = fit_splats(source.whole, how, side=settings.fit_side, output=folder, progress=False)
    seconds = sum(seconds_of(RunFolder(path.parent).metrics()) for path in folder.glob("*/metrics.jsonl"))
    gaussians, decoding = _timed(lambda: _unpacked(made.data))
    return Coded(len(made.data), gaussians, seconds, decoding)


@torch.no_grad()
def _unpacked(data: bytes) -> Gaussians:
    return decode_scene(data).expand()


def _save(gaussians: Gaussians, suffix: str) -> Coded:
    """A file of a format, as it is written by default."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"scene{suffix}"
        _, encoding = _timed(lambda: write_splats(gaussians, path))
        unpacked, decoding = _timed(lambda: read_splats(path))
        return Coded(path.stat().st_size, unpacked, encoding, decoding)


def _save_whole(source: Source, budget: None, suffix: str) -> Coded:
    return _save(source.whole, suffix)


def _save_pruned(source: Source, max_bytes: int) -> Coded:
    """The SPZ file of as many of the most important splats as fit; its seconds are those of all that were tried."""
    importance, weighing = source.importance

    @cache
    def saved(step: int) -> Coded:
        count = -(-len(source.whole) * step // PRUNING_STEPS)
        return _save(prune(source.whole, importance, count), FORMATS["spz"])

    steps = range(1, PRUNING_STEPS + 1)
    most, seconds = _timed(lambda: bisect_right(steps, max_bytes, key=lambda step: saved(step).bytes))
    return replace(saved(most), encode_seconds=weighing + seconds)


def _save_coded(source: Source, max_bytes: int) -> Coded:
    """The .splatz file that `pocket convert --budget-mb` finds best."""
    importance, weighing = source.importance
    data, encoding = _timed(lambda: encode_within(source.whole, importance, max_bytes))
    unpacked, decoding = _timed(lambda: decode_splats(data))
    return Coded(len(data), unpacked, weighing + encoding, decoding)


CODECS: dict[str, Callable[[Source, Any], Coded]] = {
    OURS: _fit,
    PRUNED: _save_pruned,
    CODED: _save_coded,
    **{name: partial(_save_whole, suffix=suffix) for name, suffix in FORMATS.items()},
}


def _timed(call: Callable[[], Made]) -> tuple[Made, float]:
    start = perf_counter()
    made = call()
    return made, perf_counter() - start


# --- rows -----------------------------------------------------------------------------------------------------


def _format_rows(run: Run, source: Source, point: Point) -> Iterator[Row]:
    id, what = f"curve-{source.scene.name}-{point.codec}", f"{WORDS[point.codec]} of {_words(source)}"
    yield run.row(
        f"{id}-bytes", f"{what} takes so many bytes.", measured=point.bytes, unit="bytes", better="lower", hardware=None
    )
    yield run.row(f"{id}-psnr", f"{what}: {_psnr(source)}.", measured=point.psnr, **_pictures(source))


def _budget_rows(run: Run, source: Source, points: Points, budget: int) -> Iterator[Row]:
    """LPGS of so many bytes, beside files of other codecs that take as many or are whole."""
    ours, spz = points[OURS, budget], points["spz", None]
    pruned, coded = (points[codec, ours.bytes] for codec in (PRUNED, CODED))
    id, what = f"curve-{source.scene.name}-{budget}", f"LPGS in at most {budget:,} bytes of {_words(source)}"
    fitted = f"fitted in {source.scene.fits[budget]:,} steps to pictures of {_square(source.settings.fit_side)}"
    target, target_over = TARGETS.get((source.scene.name, budget), (None, None))
    equal = f"{WORDS[PRUNED]}, of at most as many bytes"
    decibels = _pictures(source)
    yield run.row(
        f"{id}-bytes", f"{what} takes so many bytes.", measured=ours.bytes, unit="bytes", better="lower", hardware=None,
        seed=0, target=budget, rival="SPZ of all its splats", rival_measured=spz.bytes,
    )  # fmt: skip
    yield run.row(
        f"{id}-psnr", f"{what}, {fitted}: {_psnr(source)}.", measured=ours.psnr, target=target, rival=equal,
        rival_measured=pruned.psnr, **decibels,
    )  # fmt: skip
    yield run.row(
        f"{id}-over-pruned", f"{what} is better by so many dB than {equal}: {_psnr(source)}.",
        measured=ours.psnr - pruned.psnr, target=target_over, **decibels,
    )  # fmt: skip
    yield run.row(
        f"{id}-splatz", f"{what} beside plain entropy coding of at most as many bytes: {_psnr(source)}.",
        measured=ours.psnr, rival=WORDS[CODED], rival_measured=coded.psnr, **decibels,
    )  # fmt: skip
    yield run.row(
        f"{id}-ssim", f"{what}: mean SSIM of windows around the same pixels.", measured=ours.ssim, rival=equal,
        rival_measured=pruned.ssim, **{**decibels, "unit": "SSIM"},
    )  # fmt: skip
    for name, claim, rival, rival_point in (
        ("encode", f"{what} is made in so many seconds, {fitted}.", f"{WORDS[CODED]}, of as many bytes", coded),
        ("decode", f"{what} unpacks to plain splats in so many seconds.", "SPZ of all its splats", spz),
    ):
        yield run.row(
            f"{id}-{name}", claim, measured=getattr(ours, f"{name}_seconds"), unit="s", better="lower", n=1, seed=0,
            rival=rival, rival_measured=getattr(rival_point, f"{name}_seconds"),
        )  # fmt: skip
    yield run.row(
        f"{id}-renders", f"{what}, unpacked: pictures a second of {_square(source.settings.curve_side)} on the CPU.",
        measured=1 / ours.draw_seconds, rival="SPZ of all its splats", rival_measured=1 / spz.draw_seconds,
        **{**decibels, "unit": "pictures/s"},
    )  # fmt: skip


def _words(source: Source) -> str:
    return f"{source.scene.words} ({len(source.whole):,} splats)"


def _psnr(source: Source) -> str:
    return (
        f"PSNR over pixels that the source covers by more than 0.01, from {source.views} held-out cameras on circles "
        f"around it, far and near, {_square(source.settings.curve_side)} over black"
    )


def _square(side: int) -> str:
    return f"{side}x{side} pixels"


def _pictures(source: Source) -> dict[str, Any]:
    return {"unit": "dB", "n": source.views, "seed": 0}


def _chart(source: Source, points: Points) -> Chart:
    def line(codec: str) -> Line:
        of = sorted((point for point in points.values() if point.codec == codec), key=lambda point: point.bytes)
        return Line(WORDS[codec], [point.bytes / 1e6 for point in of], [point.psnr for point in of])

    title = f"{source.scene.name}: {len(source.whole):,} splats, {source.views} held-out pictures"
    lines: Sequence[Line] = list(map(line, CODECS))
    return Chart(title, ("megabytes", "PSNR of covered pixels, dB"), lines)
