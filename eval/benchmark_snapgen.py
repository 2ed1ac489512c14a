"""What the project claims of SnapGen, measured: sizes at paper scale, quality of the nano models, speed of the world.

`python -m pocket_diffusers.eval.benchmark_snapgen --help`
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import torch
import typer
from diffusers import AutoencoderKL
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from ..hub_models.autoencoder_snapgen import AutoencoderSnapGen
from ..hub_models.losses.photometric import psnr
from ..hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from ..pipelines.generation import silence_libraries
from ..pipelines.pipeline_snapgen import SnapGenPipeline
from ..training.datasets.pocketworld.cameras import default_camera
from ..training.datasets.pocketworld.loading import import_datasets, load_pocketworld
from ..training.datasets.pocketworld.render import render
from ..training.datasets.pocketworld.scene import ALL_PAIRS, HELD_OUT_PAIRS, SEEN_PAIRS
from ..training.recipe_snapgen import CHECKPOINTS
from .image_text_encoder import ImageTextEncoder
from .intervals import bootstrap_interval, wilson_interval
from .naming import Pair, PairJudge, count_right, pair_prompt, single_colored
from .pair_sheet import pair_sheet
from .results import Row, advantage, hardware, rows_table, update_rows, write_rows
from .retrieval import measure_retrieval, to_pictures, unambiguous_groups, world_records

COMMAND = "python -m pocket_diffusers.eval.benchmark_snapgen"
STEPS, GUIDANCE = 28, 7.0  # the nano model follows a prompt better at 7 than at the default of 4
SD3_AUTOENCODER = {  # vae/config.json of stabilityai/stable-diffusion-3.5-large
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults are those of the committed rows.

    Attributes:
        checkpoints: folder with snapgen-nano, clip-nano and clip-nano-judge.
        groups, group_size: of retrieval.
        pictures_a_pair: drawn of each of the fifty (color, shape) pairs, with the seeds 0, 1, 2...
        true_pictures: of PocketWorld that the judge names.
        reconstructions: test pictures that the autoencoder repeats.
        world_pictures, world_repeats: of each of the speed measurements, at `world_size` pixels a side.
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
    names = _known(only)
    settings, path = settings or Settings(), Path(output) / "snapgen.json"
    silence_libraries()
    rows: list[Row] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(names))
        for name in names:
            progress.update(task, description=f"measuring {name}")
            measured = list(MEASUREMENTS[name](settings, Path(output)))
            update_rows(path, measured)
            rows += measured
            progress.advance(task)
    if len(names) == len(MEASUREMENTS):
        write_rows(path, rows)
    return rows


def _known(only: Sequence[str] | None) -> list[str]:
    for name in only or ():
        if name not in MEASUREMENTS:
            raise ValueError(f"only is {name!r}; it must be one of {', '.join(MEASUREMENTS)}.")
    return [name for name in MEASUREMENTS if not only or name in only]


def _row(measurement: str, id: str, claim: str, **values: Any) -> Row:
    """A row of today; numbers keep six digits, `ratio` follows from measured and rival."""
    values = {"size": "nano", "better": "higher", "hardware": hardware(), **values}
    for name in ("measured", "target", "rival_measured"):
        values[name] = None if values.get(name) is None else _rounded(values[name])
    if values.get("interval") is not None:
        values["interval"] = tuple(map(_rounded, values["interval"]))
    if values["rival_measured"] is not None:
        values["ratio"] = advantage(values["measured"], values["rival_measured"], values["better"])
    today = datetime.now(UTC).date().isoformat()
    return Row(id=id, claim=claim, command=f"{COMMAND} --only {measurement}", date=today, **values)


def _rounded(number: float) -> float:
    return float(f"{number:.6g}")


# --- parameters ---------------------------------------------------------------------------------------------


def measure_parameters(settings: Settings, output: Path) -> Iterator[Row]:
    """Parameter counts at the paper's size, on the meta device; exact, so without interval and hardware."""
    with torch.device("meta"):
        unet = _millions(SnapGenUNet2DConditionModel.from_preset("paper"))
        imagenet = _millions(SnapGenUNet2DConditionModel.from_preset("imagenet"))
        decoder = _millions(AutoencoderSnapGen.from_preset("paper").decoder)
        reference = _millions(AutoencoderKL(**SD3_AUTOENCODER).decoder)
    exact = {"size": "paper", "unit": "million parameters", "better": "lower", "hardware": None}
    yield _row(
        "parameters", "unet-parameters", "The text-to-image UNet has 379 M parameters, within 0.3 %.",
        measured=unet, published=379.0, target=379.0 * 1.003, **exact,
    )  # fmt: skip
    yield _row(
        "parameters", "unet-imagenet-parameters", "The ImageNet UNet has 372 M parameters, within 0.3 %.",
        measured=imagenet, published=372.0, target=372.0 * 1.003, **exact,
    )  # fmt: skip
    yield _row(
        "parameters", "decoder-parameters", "The decoder has 1.38 M parameters, within 1 %.",
        measured=decoder, published=1.38, target=1.38 * 1.01,
        rival="decoder of Stable Diffusion 3", rival_measured=reference, **exact,
    )  # fmt: skip
    shrink = {**exact, "unit": "times", "better": "higher"}
    yield _row(
        "parameters", "decoder-reduction", "The decoder is 36 times smaller than that of Stable Diffusion 3.",
        measured=reference / decoder, published=36.0, target=35.5, rival="decoder of Stable Diffusion 3", **shrink,
    )  # fmt: skip


def _millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


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
            yield _row("retrieval", f"{name}-{way}", claim, target=0.9, seed=0, **_share(right, recall.queries))


def _share(right: int, count: int) -> dict[str, Any]:
    return {"measured": right / count, "unit": "share", "interval": wilson_interval(right, count), "n": count}


# --- pictures -----------------------------------------------------------------------------------------------


def measure_naming(settings: Settings, output: Path) -> Iterator[Row]:
    """How often clip-nano-judge names the pair that was asked for among all fifty; draws the sheet of pairs."""
    judge = PairJudge(ImageTextEncoder.from_folder(settings.checkpoints / "clip-nano-judge"))
    pipeline = load_nano(settings)
    world = world_records("test", settings.world_size)
    records, shown = zip(*single_colored(world, settings.true_pictures), strict=True)
    truth = count_right(judge.name(to_pictures(records)), shown)
    drawn = draw_pairs(pipeline, ALL_PAIRS, settings.pictures_a_pair)
    named = judge.name(drawn.flatten(0, 1))
    _save_sheet(output, drawn[0], named[: len(ALL_PAIRS)])

    asked = ALL_PAIRS * settings.pictures_a_pair
    rival = {"rival": "the judge on PocketWorld's own pictures", "rival_measured": truth[0] / truth[1], "seed": 0}
    yield _row(
        "naming", "judge-seen-pairs",
        "The judge names the colour and shape asked for among all fifty, pairs seen in training.",
        target=0.9, **_share(*count_right(named, asked, SEEN_PAIRS)), **rival,
    )  # fmt: skip
    yield _row(
        "naming", "judge-held-out-pairs",
        "The judge names the colour and shape asked for among all fifty, pairs never seen in training.",
        **_share(*count_right(named, asked, HELD_OUT_PAIRS)), **rival,
    )  # fmt: skip
    claim = "The judge names the pair of PocketWorld's own test pictures: the ceiling of the rows above."
    yield _row("naming", "judge-ground-truth", claim, seed=0, **_share(*truth))


def load_nano(settings: Settings) -> SnapGenPipeline:
    """The committed text-to-image pipeline in float32 on the CPU."""
    pipeline = SnapGenPipeline.from_pretrained(settings.checkpoints / "snapgen-nano")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_pairs(
    pipeline: SnapGenPipeline, pairs: Sequence[Pair], count: int
) -> Float[Tensor, "count pairs 3 height width"]:
    """Pictures in [0, 1] of "a photo of a COLOR SHAPE", `count` of each pair; picture i has seed i."""
    prompts = [pair_prompt(pair) for pair in pairs]
    rounds = []
    for seed in range(count):
        seeds = [torch.Generator().manual_seed(seed) for _ in prompts]
        made = pipeline(prompts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=seeds, output_type="pt")
        rounds.append(made.images)
    return torch.stack(rounds)


def _save_sheet(output: Path, pictures: Float[Tensor, "pairs 3 height width"], named: list[Pair]) -> None:
    sheet = pair_sheet(dict(zip(ALL_PAIRS, pictures, strict=True)), dict(zip(ALL_PAIRS, named, strict=True)))
    path, draft = output / "snapgen.png", output / ".snapgen.png.partial"
    try:
        output.mkdir(parents=True, exist_ok=True)
        sheet.save(draft, format="PNG")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(f"cannot write {path}: {error.strerror or error}.") from error


@torch.no_grad()
def measure_autoencoder(settings: Settings, output: Path) -> Iterator[Row]:
    """Mean PSNR of reconstructions of test pictures through the nano autoencoder."""
    vae = load_nano(settings).vae
    records = list(islice(world_records("test", vae.config.sample_size), settings.reconstructions))
    values: list[float] = []
    for pixels in (2 * to_pictures(records) - 1).split(100):
        output_pixels = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        values += psnr(output_pixels, pixels).tolist()
    yield _row(
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
    return _row(
        measurement, id, claim, measured=fmean(rates), interval=interval, n=len(rates) * count, seed=0, **values
    )


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
    "parameters": measure_parameters,
    "retrieval": measure_retrieval_of_encoders,
    "autoencoder": measure_autoencoder,
    "naming": measure_naming,
}
"""What `only` may name, in the order of measurement: speeds first, before caches and threads of the others."""


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"{', '.join(MEASUREMENTS)}; repeat it for several.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for rows and picture.")] = Path(
        "outputs/eval-snapgen"
    ),
) -> None:
    """Measure SnapGen; exit status 1 when a target is missed, 2 when something could not be measured."""
    try:
        rows = run(only, output)
    except (ValueError, OSError, ImportError) as error:
        print(f"Error: {' '.join(str(error).split())}", file=sys.stderr)
        raise typer.Exit(2) from error
    Console().print(rows_table(rows))
    raise typer.Exit(int(any(row.passed is False for row in rows)))


if __name__ == "__main__":
    typer.run(main)
