"""The paper's ladder (arXiv 2406.04333, table 4) on the nano model: what each part of the method adds."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn

from ....hub_models.assignment_bitsfusion import weight_counts
from ....hub_models.layers.low_bit_levels import Levels
from ....hub_models.layers.low_bit_scales import alternating_scales
from ....hub_models.layers.time_embedding_cache import cached_widths, replaced_layers
from ....hub_models.quantizer_bitsfusion import (
    BitsFusionConfig,
    average_bits,
    low_bit_layers,
    pack_model,
    prepare_training,
)
from ....pipelines.files import read_json
from ....pipelines.fitting.loop import Batches, Objective
from ....pipelines.pipeline_bitsfusion import BitsFusionPipeline
from ....training.conditions import CachedConditions, cached_latents, cached_texts, encode_unmasked
from ....training.datasets.captioned_images import pocketworld_images
from ....training.datasets.streams import shuffled_batches
from ....training.loop import train
from ....training.objectives.denoising import Denoising
from ....training.objectives.distillation import Distillation
from ....training.plot import import_figure
from ....training.recipe_bitsfusion import DISTILL, FINETUNE, freeze_time, noise_levels
from ...benchmark import Run
from ...drawing import load_committed
from ...results import Row
from .pictures import FULL, KEPT, PACKED, Drawn, Raters
from .settings import Settings

HALF = 2  # bytes of a number that is not packed, as repositories store it
UNIFORM_BITS = 2


@dataclass(frozen=True)
class Rung:
    """One form of the method; each differs from the one before in one part.

    Attributes:
        words: what the row calls it.
        balance: 2^bits + 1 levels, not 2^bits.
        alternating: scales by alternating optimisation, not from the largest weight.
        mixed: bits by sensitivity and a cache in place of the layers of time, not 2 bits everywhere between the ends.
        features: features of blocks are distilled, not the output alone.
        timesteps: from Beta(3, 1), not uniform.
        second_stage: noise prediction follows the distillation, for as many steps.
    """

    words: str
    balance: bool = True
    alternating: bool = True
    mixed: bool = True
    features: bool = True
    timesteps: bool = True
    second_stage: bool = False


RUNGS = {
    "lsq": Rung("LSQ at 2 bits", False, False, False, False, False),
    "balance": Rung("with the balance level", True, False, False, False, False),
    "alternating": Rung("and scales by alternating optimisation", True, True, False, False, False),
    "mixed": Rung("and mixed bits and cached time embeddings", True, True, True, False, False),
    "features": Rung("and distilled features", True, True, True, True, False),
    "timesteps": Rung("and timesteps towards noise"),
    "second-stage": Rung("and the second stage", second_stage=True),
}


class UnbalancedLevels(Levels):
    """2^bits levels, one more below 0 than above."""

    @property
    def highest(self) -> int:
        return 2 ** (self.bits - 1) - 1


@dataclass(frozen=True)
class Lessons:
    """What all rungs learn from: the committed model in full precision, and PocketWorld."""

    pipeline: BitsFusionPipeline
    conditions: CachedConditions
    batches: Batches
    steps: int

    @classmethod
    def load(cls, settings: Settings) -> "Lessons":
        pipeline = load_committed("bitsfusion", settings.checkpoints / FULL)
        data = pocketworld_images("train", settings.picture_size, settings.ladder_pictures)
        latents = cached_latents(pipeline.vae, data.images, torch.arange(len(data)))
        drop = DISTILL["nano"].text_drop
        conditions = cached_texts(partial(encode_unmasked, pipeline), latents, data.captions, drop)
        batches = shuffled_batches(len(data), DISTILL["nano"].batch_size, 0, 1)
        return cls(pipeline, conditions, batches, settings.ladder_steps)

    def distil(self, student: nn.Module, rung: Rung) -> None:
        preset = DISTILL["nano"]
        weight = preset.feature_weight if rung.features else 0.0
        teacher, levels = copy.deepcopy(self.pipeline.unet), noise_levels(self.pipeline)
        alpha = preset.time_alpha if rung.timesteps else 1.0
        self._learn(
            student, Distillation(student, teacher, levels, self.conditions, preset.learning_rate, weight, alpha), 1
        )

    def predict_noise(self, student: nn.Module, seed: int) -> None:
        preset = FINETUNE["nano"]
        levels = noise_levels(self.pipeline)
        objective = Denoising(
            student, levels, self.conditions, preset.learning_rate, time_alpha=preset.time_alpha
        )  # fmt: skip
        self._learn(student, objective, seed)

    def _learn(self, student: nn.Module, objective: Objective, seed: int) -> None:
        settings = replace(DISTILL["nano"], steps=self.steps, seed=seed, save_every=self.steps).settings()
        student.set_attn_processor(AttnProcessor())  # which trains fastest on a CPU
        with TemporaryDirectory(prefix="ladder-") as folder:
            train(objective, self.batches, settings, Path(folder), False)
        student.set_attn_processor(AttnProcessor2_0())
        student.eval()


def rung_config(rung: Rung, settings: Settings) -> BitsFusionConfig:
    """Bits of every layer: those of the committed model, or 2 between first and last."""
    if rung.mixed:
        return BitsFusionConfig(**read_json(settings.checkpoints / PACKED / "unet" / "config.json", dict)[
            "quantization_config"
        ])  # fmt: skip
    return BitsFusionConfig(default_bits=UNIFORM_BITS)


def new_student(rung: Rung, unet: UNet2DConditionModel, config: BitsFusionConfig) -> UNet2DConditionModel:
    """A copy of the model in low-bit training, as the rung begins."""
    student = prepare_training(copy.deepcopy(unet).requires_grad_(True), config)
    if rung.mixed:
        freeze_time(student)
    with torch.no_grad():
        for layer in low_bit_layers(student).values():
            if not rung.balance and layer.levels.bits == UNIFORM_BITS:
                layer.levels = UnbalancedLevels(UNIFORM_BITS)
            if not rung.alternating:
                layer.scales.copy_(alternating_scales(layer.weight, layer.levels, iterations=0))
    return student


def bits_of(unet: UNet2DConditionModel, student: UNet2DConditionModel, config: BitsFusionConfig) -> float:
    """Average bits a weight as the paper counts them."""
    counts, bits = weight_counts(unet), {name: layer.levels for name, layer in low_bit_layers(student).items()}
    steps = len(config.cached_timesteps)
    cache = (replaced_layers(unet), steps * cached_widths(unet)) if steps else ()
    balanced = average_bits(counts, {name: levels.bits for name, levels in bits.items()}, *cache)
    lost = sum(
        counts[name] * (Levels(levels.bits).bits_per_weight - levels.bits_per_weight) for name, levels in bits.items()
    )
    return balanced - lost / sum(counts.values())


def stored_bytes(model: nn.Module) -> int:
    """What a model's tensors take in a repository: words and scales as they are, all else in half precision."""
    return sum(
        value.nbytes if not value.is_floating_point() else HALF * value.numel() for value in model.state_dict().values()
    )


def measure_ladder(settings: Settings, run: Run) -> Iterator[Row]:
    """Trains every rung from the same weights on the same batches, and the model in full precision as long."""
    import_figure()
    lessons, raters = Lessons.load(settings), Raters(settings, settings.ladder_images)
    full = lessons.pipeline.unet
    control = copy.deepcopy(full).requires_grad_(True)
    for seed in (1, 2):
        lessons.predict_noise(control, seed)
    held = rated(raters, lessons, control)
    words = "trained on in full precision for as many steps as both stages"
    yield held.row(run, "geneval-control", f"GenEval of the nano model {words}")
    yield held.clip_row(run, "clip-control", f"CLIP score of the nano model {words}")
    yield run.row(
        "ladder-control-bytes", "Bytes of the nano model's UNet in half precision.",
        measured=stored_bytes(control), unit="bytes", better="lower",
    )  # fmt: skip
    for name, rung in RUNGS.items():
        config = rung_config(rung, settings)
        student = new_student(rung, full, config)
        average = bits_of(full, student, config)
        lessons.distil(student, rung)
        if rung.second_stage:
            lessons.predict_noise(student, 2)
        pack_model(student)
        yield from rung_rows(run, name, rung, rated(raters, lessons, student), held, average, stored_bytes(student))


def rated(raters: Raters, lessons: Lessons, unet: nn.Module) -> Drawn:
    parts = {**lessons.pipeline.components, "unet": unet}
    pipeline = BitsFusionPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return raters.rate(pipeline)


def rung_rows(
    run: Run, name: str, rung: Rung, drawn: Drawn, control: Drawn, average: float, stored: int
) -> Iterator[Row]:
    rival, last = "the model trained on in full precision", rung.second_stage
    target = {"target": KEPT * control.geneval.overall} if last else {}
    yield drawn.row(
        run, f"ladder-{name}-geneval", f"GenEval of the nano model after {rung.words}",
        rival=rival, rival_measured=control.geneval.overall, **target,
    )  # fmt: skip
    yield drawn.clip_row(
        run, f"ladder-{name}-clip", f"CLIP score of the nano model after {rung.words}",
        rival=rival, rival_measured=control.clip.clip_score,
    )  # fmt: skip
    yield run.row(
        f"ladder-{name}-bits", f"Average bits a weight of the nano model {rung.words}, as the paper counts them.",
        measured=average, unit="bits", better="lower", **({"target": 2.0} if last else {}),
    )  # fmt: skip
    yield run.row(
        f"ladder-{name}-bytes", f"Bytes of the nano model's UNet {rung.words}.",
        measured=stored, unit="bytes", better="lower",
    )  # fmt: skip
