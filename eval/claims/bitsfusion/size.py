"""How small the UNet of Stable Diffusion 1.5 is by the published recipe: bits, bytes, and what making it takes."""

from collections.abc import Iterator
from pathlib import Path

import torch

from ....hub_models.layers.low_bit import LOW_BIT
from ....hub_models.layers.time_embedding_cache import cached_widths, replaced_layers
from ....hub_models.quantizer_bitsfusion import average_bits
from ...benchmark import Run
from ...results import Row, band
from ...timing.contest import Contender
from ...timing.cost_rows import EXACT, IMPORTS, CostClaim, cost_rows, measure_costs
from .contenders import load_float32
from .settings import Settings
from .shape import CACHE_STEPS, FULL, PACKED, empty_unet, recipe, shape_folder

PUBLISHED_BITS, PUBLISHED_MEGABYTES, PUBLISHED_RATIO = 1.99, 219.0, 7.9
BITS, MEGABYTES, SMALLER = 1.9885, 219.5, 7.8
LARGEST_LAYERS = 8  # so many times the largest layer in float32, and the result, is what packing may hold


def measure_size(settings: Settings, run: Run) -> Iterator[Row]:
    """Bits, bytes, bit-exactness, and what `quantize_folder` takes for the whole shape in a process of its own."""
    preset = settings.shape
    bits = recipe_bits(preset)
    yield run.row(
        "average-bits",
        "Bits a weight of the published recipe as the paper counts them, with a cache of 50 timesteps.",
        measured=bits, published=PUBLISHED_BITS, unit="bits", target=band(BITS, 5e-5 / BITS),
        **{**EXACT, "better": "within"},
    )  # fmt: skip
    with shape_folder(preset) as folder:
        run.record_path().unlink(missing_ok=True)  # of a run that was broken off, whose folder is gone
        costs = measure_costs(run, [
            Contender(
                name="quantize_folder", build=f"{__package__}.contenders:build_quantization",
                arguments={"preset": preset}, memory_gb=3.0, folder=folder,
            )
        ], 1, settings.threads)  # fmt: skip
        yield from cost_rows(run, costs, [
            CostClaim(
                id="quantization-seconds", claim="`pocket quantize` packs the whole UNet in so many seconds.",
                quantity="seconds",
            ),
        ])  # fmt: skip
        (found,) = costs.found
        if found.error is not None:  # as the row of its seconds says
            return
        full, packed = weight_bytes(folder / FULL / "unet"), weight_bytes(folder / PACKED / "unet")
        largest = max(shape.numel() for shape in (p.shape for p in empty_unet(preset).parameters()))
        yield run.row(
            "quantization-memory", "`pocket quantize` holds, above what imports hold, at most the result and eight "
            "times the largest layer in float32, never the whole model.",
            measured=found.peak_memory_mb - found.facts[IMPORTS], unit="MB", better="lower", size="paper", n=1,
            target=(packed + LARGEST_LAYERS * 4 * largest) / 1e6, date=costs.date,
        )  # fmt: skip
        yield run.row(
            "folder-bytes", "Weights on disk by the published recipe, with scales, biases, norms and a cache of 50 "
            "timesteps.", measured=packed / 1e6, published=PUBLISHED_MEGABYTES, unit="MB", target=MEGABYTES,
            rival="float16", rival_measured=full / 1e6, **EXACT,
        )  # fmt: skip
        yield run.row(
            "folder-ratio", "The packed weights on disk are so many times smaller than those in float16.",
            measured=full / packed, published=PUBLISHED_RATIO, unit="times", target=SMALLER,
            **{**EXACT, "better": "higher"},
        )  # fmt: skip
        same, count = same_when_saved(folder / PACKED / "unet", folder / "again")
        yield run.row(
            "saved-again", "Tensors that are bit for bit the same after the packed folder is loaded and saved again.",
            measured=same / count, unit="share", n=count, target=1.0, **{**EXACT, "better": "higher"},
        )  # fmt: skip


def recipe_bits(preset: str) -> float:
    """Average bits of a preset's recipe with a cache of 50 timesteps, by the paper's formula."""
    unet = empty_unet(preset)
    counts = {name: layer.weight.numel() for name, layer in unet.named_modules() if type(layer) in LOW_BIT}
    replaced = replaced_layers(unet)
    bits = {name: own for name, own in recipe(preset).layer_bits(unet).items() if name not in replaced}
    return average_bits(counts, bits, replaced, CACHE_STEPS * cached_widths(unet))


def weight_bytes(folder: Path) -> int:
    """Bytes of a folder's files of weights."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def same_when_saved(folder: Path, again: Path) -> tuple[int, int]:
    """How many of a folder's tensors are the same after loading it and saving it to `again`, and how many there are."""
    unet = load_float32(str(folder))
    unet.save_pretrained(again)
    other = load_float32(str(again)).state_dict()
    mine = unet.state_dict()
    same = [torch.equal(value, other[name]) for name, value in mine.items() if name in other]
    return sum(same), len(mine | other)
