"""How fast PocketWorld's pictures are made, and how fast they come out of a data set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from ....training.datasets.pocketworld.cameras import default_camera
from ....training.datasets.pocketworld.loading import import_datasets, load_pocketworld
from ....training.datasets.pocketworld.render import render
from ...benchmark import Run
from ...intervals import bootstrap_interval
from ...results import Row
from ...scores.retrieval import world_records
from .settings import Settings


def measure_rendering(settings: Settings, run: Run) -> Iterator[Row]:
    """Pictures a second that the ray caster makes, with masks, depth and normals."""
    size = settings.picture_size
    scenes = [record.scene for record in islice(world_records("test", size), settings.pictures)]
    camera = default_camera(size)
    rates = [_rate(len(scenes), lambda: render(scenes, *camera, size)) for _ in range(settings.repeats)]
    yield run.row(
        "pocketworld-rendering", f"PocketWorld renders pictures with masks at {size}x{size}.",
        unit="pictures/s", target=500.0, **_mean(rates, len(scenes)),
    )  # fmt: skip


def measure_loading(settings: Settings, run: Run) -> Iterator[Row]:
    """Records a second through `load_pocketworld`: made by two processes, stored, and read back as pictures."""
    size, count = settings.picture_size, settings.pictures

    def load(seed: int) -> None:
        rows = load_pocketworld("image", "test", size, count, seed, num_proc=2)
        assert sum(row["image"].size == row["mask"].size for row in rows) == count

    rates = []
    for seed in range(settings.repeats):
        with _empty_datasets_cache():
            rates.append(_rate(count, lambda seed=seed: load(seed)))
    yield run.row(
        "pocketworld-records", f"PocketWorld records at {size}x{size}, end to end, nothing cached.",
        unit="records/s", target=250.0, **_mean(rates, count),
    )  # fmt: skip


def _rate(count: int, work: Callable[[], Any]) -> float:
    start = perf_counter()
    work()
    return count / (perf_counter() - start)


def _mean(rates: list[float], count: int) -> dict[str, Any]:
    interval = bootstrap_interval(rates) if len(rates) > 1 else None
    return {"measured": fmean(rates), "interval": interval, "n": len(rates) * count, "seed": 0}


@contextmanager
def _empty_datasets_cache() -> Iterator[None]:
    """Keeps `datasets` from finding what an earlier run stored, and from leaving anything behind."""
    datasets = import_datasets()
    kept = datasets.config.HF_DATASETS_CACHE
    datasets.disable_progress_bars()
    with TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder)
        try:
            yield
        finally:
            datasets.config.HF_DATASETS_CACHE = kept
            datasets.enable_progress_bars()
