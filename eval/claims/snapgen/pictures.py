"""How good SnapGen's nano models are: what they draw, as a CLIP names it and as a detector sees it, and repeat."""

from collections.abc import Iterator
from itertools import islice
from statistics import fmean

import torch

from ....hub_models.losses.photometric import psnr
from ....pipelines.pipeline_snapgen import SnapGenPipeline
from ....training.datasets.pocketworld.scene import ALL_PAIRS, HELD_OUT_PAIRS, SEEN_PAIRS
from ...benchmark import Run, share
from ...drawing import load_committed
from ...figures.pairs import draw_pair_sheet
from ...geneval.drawn import drawn_rows
from ...instruments.judge import JUDGE, JudgeDetector
from ...intervals import bootstrap_interval
from ...named_pairs import NAMER, draw_pairs, load_namer
from ...results import Row
from ...scores.naming import count_right, single_colored
from ...scores.retrieval import to_pictures, world_records
from .settings import Settings

NANO = "snapgen-nano"


def load_nano(settings: Settings) -> SnapGenPipeline:
    """The committed text-to-image pipeline in float32 on the CPU."""
    return load_committed("snapgen", settings.checkpoints / NANO)


def measure_naming(settings: Settings, run: Run) -> Iterator[Row]:
    """How often clip-nano-judge names the pair that was asked for among all fifty; draws the sheet of pairs."""
    namer, pipeline = load_namer(settings.checkpoints), load_nano(settings)
    world = world_records("test", settings.picture_size)
    records, shown = zip(*single_colored(world, settings.true_pictures), strict=True)
    truth = count_right(namer.name(to_pictures(records)), shown)
    drawn = draw_pairs(pipeline, ALL_PAIRS, settings.pictures_a_pair)
    named = namer.name(drawn.flatten(0, 1))
    draw_pair_sheet(run.picture_path(), drawn[0], named[: len(ALL_PAIRS)])

    asked = ALL_PAIRS * settings.pictures_a_pair
    rival = {"rival": f"{NAMER} on PocketWorld's own pictures", "rival_measured": truth[0] / truth[1]}
    names = f"{NAMER} names the colour and shape asked for among all fifty"
    yield run.row(
        "judge-seen-pairs", f"{names}, pairs seen in training.",
        target=0.9, **share(*count_right(named, asked, SEEN_PAIRS)), **rival,
    )  # fmt: skip
    yield run.row(
        "judge-held-out-pairs",
        f"{names}, pairs that the UNet never saw in training; the autoencoder and the text encoder saw all fifty.",
        **share(*count_right(named, asked, HELD_OUT_PAIRS)), **rival,
    )  # fmt: skip
    claim = f"{NAMER} names the pair of PocketWorld's own test pictures: the ceiling of the rows above."
    yield run.row("judge-ground-truth", claim, **share(*truth))


def measure_geneval(settings: Settings, run: Run) -> Iterator[Row]:
    """GenEval on PocketWorld's prompts, by a detector that no generator has learned from."""
    return drawn_rows(
        run, load_nano(settings), JudgeDetector(settings.checkpoints / JUDGE), settings.geneval_images,
        settings.geneval_truth, settings.picture_size,
    )  # fmt: skip


@torch.no_grad()
def measure_autoencoder(settings: Settings, run: Run) -> Iterator[Row]:
    """Mean PSNR of reconstructions of test pictures through the nano autoencoder."""
    vae = load_nano(settings).vae
    records = list(islice(world_records("test", vae.config.sample_size), settings.reconstructions))
    values: list[float] = []
    for pixels in (2 * to_pictures(records) - 1).split(100):
        output_pixels = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        values += psnr(output_pixels, pixels).tolist()
    yield run.row(
        "autoencoder-psnr", "The nano autoencoder repeats test pictures.",
        measured=fmean(values), unit="dB", interval=bootstrap_interval(values), n=len(values), seed=0,
    )  # fmt: skip
