"""What the project claims of SnapGen, measured: sizes at paper scale, quality of nano models, speed of the world."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ....hub_models.losses.photometric import psnr
from ....pipelines.files import whole_file
from ....training.datasets.pocketworld.cameras import default_camera
from ....training.datasets.pocketworld.loading import import_datasets, load_pocketworld
from ....training.datasets.pocketworld.render import render
from ....training.datasets.pocketworld.scene import ALL_PAIRS, HELD_OUT_PAIRS, SEEN_PAIRS
from ....training.recipe_snapgen import CHECKPOINTS
from ...benchmark import new_row, run_measurements
from ...exported import RUNTIMES
from ...figures.pairs import pair_sheet
from ...instruments.clip import ImageTextEncoder
from ...intervals import bootstrap_interval, wilson_interval
from ...results import Row
from ...scores.naming import Pair, PairNamer, count_right, single_colored
from ...scores.retrieval import measure_retrieval, to_pictures, unambiguous_groups, world_records
from .contenders import LATENT_SIZE
from .costs import PIXELS, measure_decoding, measure_operations, measure_parameters, measure_steps
from .drawing import draw_pairs, load_nano
from .exported import measure_exported
from .geneval import measure_geneval

COMMAND = "pocket eval snapgen"

row = partial(new_row, "snapgen")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults are those of the committed rows.

    Attributes:
        checkpoints: folder with snapgen-nano, clip-nano, clip-nano-judge and ascan-nano-judge.
        groups, group_size: of retrieval.
        pictures_a_pair: drawn of each of the fifty (color, shape) pairs, with the seeds 0, 1, 2...
        true_pictures: of PocketWorld that the judge names.
        reconstructions: test pictures that the autoencoder repeats.
        world_pictures, world_repeats: of each of the speed measurements, at `world_size` pixels a side.
        repeats: timed calls of each contender.
        threads: of each contender.
        latent_size: side of the latents that the UNets get.
        pixels: sides of the pictures that are decoded.
        back_ends: whose bundles draw.
        exported_pictures_a_pair: drawn of each pair seen in training, by the model and by each of its bundles.
        geneval_images: pictures of each of PocketWorld's prompts at most; None takes as many as their list asks for.
        geneval_truth: pictures of PocketWorld that the same judge sees beside them.
    """

    checkpoints: Path = CHECKPOINTS
    groups: int = 5
    group_size: int = 100
    pictures_a_pair: int = 10
    true_pictures: int = 400
    reconstructions: int = 500
    world_pictures: int = 1024
    world_repeats: int = 5
    world_size: int = 64
    repeats: int = 5
    threads: int = 2
    latent_size: int = LATENT_SIZE
    pixels: tuple[int, ...] = PIXELS
    back_ends: tuple[str, ...] = tuple(RUNTIMES)
    exported_pictures_a_pair: int = 3
    geneval_images: int | None = None
    geneval_truth: int = 1200


def run(only: Sequence[str] | None, output: Path, settings: Settings | None = None) -> list[Row]:
    """Measure and write the rows to `output`/snapgen.json, each measurement's as soon as they are known.

    Rows that are there already and are not measured again stay, except after a whole run. Measurement `naming` also
    draws `output`/snapgen.png, a picture of every pair.

    Args:
        only: measurements out of `MEASUREMENTS`; None or nothing takes all.
        output: folder; made if need be.
        settings: how much is measured.

    Returns:
        The rows that were measured.

    Raises:
        ValueError: an unknown measurement, or a damaged checkpoint or results file.
        FileNotFoundError: a checkpoint that is missing.
        OSError: results that cannot be written.
    """
    return run_measurements("snapgen", MEASUREMENTS, only, output, settings or Settings())


# --- encoders -----------------------------------------------------------------------------------------------


def measure_retrieval_of_encoders(settings: Settings, output: Path) -> Iterator[Row]:
    """R@1 of clip-nano and of clip-nano-judge, both ways, over the same groups of test pictures."""
    encoders = {
        name: ImageTextEncoder.from_folder(settings.checkpoints / name) for name in ("clip-nano", "clip-nano-judge")
    }
    groups = unambiguous_groups(world_records("test", settings.world_size), settings.groups, settings.group_size)
    for name, encoder in encoders.items():
        recall = measure_retrieval(encoder, groups)
        for way, right, question in (
            ("image-to-text", recall.image_to_text, "A test picture finds its caption"),
            ("text-to-image", recall.text_to_image, "A test caption finds its picture"),
        ):
            claim = f"{question} among {settings.group_size} different ones with {name} (R@1)."
            yield row("retrieval", f"{name}-{way}", claim, target=0.9, seed=0, **_share(right, recall.queries))


def _share(right: int, count: int) -> dict[str, Any]:
    return {"measured": right / count, "unit": "share", "interval": wilson_interval(right, count), "n": count}


# --- pictures -----------------------------------------------------------------------------------------------


def measure_naming(settings: Settings, output: Path) -> Iterator[Row]:
    """How often clip-nano-judge names the pair that was asked for among all fifty; draws the sheet of pairs."""
    judge = PairNamer(ImageTextEncoder.from_folder(settings.checkpoints / "clip-nano-judge"))
    pipeline = load_nano(settings)
    world = world_records("test", settings.world_size)
    records, shown = zip(*single_colored(world, settings.true_pictures), strict=True)
    truth = count_right(judge.name(to_pictures(records)), shown)
    drawn = draw_pairs(pipeline, ALL_PAIRS, settings.pictures_a_pair)
    named = judge.name(drawn.flatten(0, 1))
    _save_sheet(output, drawn[0], named[: len(ALL_PAIRS)])

    asked = ALL_PAIRS * settings.pictures_a_pair
    rival = {"rival": "the judge on PocketWorld's own pictures", "rival_measured": truth[0] / truth[1], "seed": 0}
    yield row(
        "naming", "judge-seen-pairs",
        "The judge names the colour and shape asked for among all fifty, pairs seen in training.",
        target=0.9, **_share(*count_right(named, asked, SEEN_PAIRS)), **rival,
    )  # fmt: skip
    yield row(
        "naming", "judge-held-out-pairs",
        "The judge names the colour and shape asked for among all fifty, pairs never seen in training.",
        **_share(*count_right(named, asked, HELD_OUT_PAIRS)), **rival,
    )  # fmt: skip
    claim = "The judge names the pair of PocketWorld's own test pictures: the ceiling of the rows above."
    yield row("naming", "judge-ground-truth", claim, seed=0, **_share(*truth))


def _save_sheet(output: Path, pictures: Float[Tensor, "pairs 3 height width"], named: list[Pair]) -> None:
    sheet = pair_sheet(dict(zip(ALL_PAIRS, pictures, strict=True)), dict(zip(ALL_PAIRS, named, strict=True)))
    with whole_file(output / "snapgen.png") as draft:
        sheet.save(draft, format="PNG")


@torch.no_grad()
def measure_autoencoder(settings: Settings, output: Path) -> Iterator[Row]:
    """Mean PSNR of reconstructions of test pictures through the nano autoencoder."""
    vae = load_nano(settings).vae
    records = list(islice(world_records("test", vae.config.sample_size), settings.reconstructions))
    values: list[float] = []
    for pixels in (2 * to_pictures(records) - 1).split(100):
        output_pixels = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        values += psnr(output_pixels, pixels).tolist()
    yield row(
        "autoencoder", "autoencoder-psnr", "The nano autoencoder repeats test pictures.",
        measured=fmean(values), unit="dB", interval=bootstrap_interval(values), n=len(values), seed=0,
    )  # fmt: skip


# --- world --------------------------------------------------------------------------------------------------


def measure_rendering(settings: Settings, output: Path) -> Iterator[Row]:
    """Pictures a second that the ray caster makes, with masks, depth and normals."""
    size = settings.world_size
    scenes = [record.scene for record in islice(world_records("test", size), settings.world_pictures)]
    camera = default_camera(size)
    rates = [_rate(len(scenes), lambda: render(scenes, *camera, size)) for _ in range(settings.world_repeats)]
    claim = f"PocketWorld renders pictures with masks at {size}x{size}."
    yield _speed("rendering", "pocketworld-rendering", claim, rates, len(scenes), unit="pictures/s", target=500.0)


def measure_loading(settings: Settings, output: Path) -> Iterator[Row]:
    """Records a second through `load_pocketworld`: made by two processes, stored, and read back as pictures."""

    def load(seed: int) -> None:
        rows = load_pocketworld("image", "test", settings.world_size, settings.world_pictures, seed, num_proc=2)
        assert sum(row["image"].size == row["mask"].size for row in rows) == settings.world_pictures

    rates = []
    for seed in range(settings.world_repeats):
        with _empty_datasets_cache():
            rates.append(_rate(settings.world_pictures, lambda seed=seed: load(seed)))
    claim = f"PocketWorld records at {settings.world_size}x{settings.world_size}, end to end, nothing cached."
    count = settings.world_pictures
    yield _speed("loading", "pocketworld-records", claim, rates, count, unit="records/s", target=250.0)


def _rate(count: int, work: Callable[[], Any]) -> float:
    start = perf_counter()
    work()
    return count / (perf_counter() - start)


def _speed(measurement: str, id: str, claim: str, rates: list[float], count: int, **values: Any) -> Row:
    interval = bootstrap_interval(rates) if len(rates) > 1 else None
    return row(measurement, id, claim, measured=fmean(rates), interval=interval, n=len(rates) * count, seed=0, **values)


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


MEASUREMENTS: dict[str, Callable[[Settings, Path], Iterator[Row]]] = {
    "rendering": measure_rendering,
    "loading": measure_loading,
    "steps": measure_steps,
    "decoding": measure_decoding,
    "parameters": measure_parameters,
    "operations": measure_operations,
    "retrieval": measure_retrieval_of_encoders,
    "autoencoder": measure_autoencoder,
    "naming": measure_naming,
    "exported": measure_exported,
    "geneval": measure_geneval,
}
"""What `only` may name, in the order of measurement: speeds first, before caches and threads of the others."""
