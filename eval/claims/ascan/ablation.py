"""AsCAN's claim in small: does a network with convolutions early and attention late learn more from the same compute?

Four designs of about equal parameters, strings of one grammar, learn the fifty colour-shape classes of PocketWorld from
few degraded pictures, in the same order and from the same seeds.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from ....hub_models.transformer_ascan import AsCANModel
from ....pipelines.files import read_json, write_json
from ....pipelines.fitting.loop import FitSettings, fit
from ....training.datasets.labelled_images import LabelledImages
from ....training.datasets.pocketworld.scene import ALL_PAIRS
from ....training.datasets.streams import shuffled_batches
from ....training.objectives.classification import Classification, ClassificationSettings, accuracy
from ....training.objectives.degradation import degrade
from ....training.plot import import_figure
from ...benchmark import Run
from ...figures.lines import Line, draw_lines
from ...intervals import student_interval
from ...protocol import protocol_hash
from ...results import Row
from ...scores.operations import count_operations, count_parameters
from ...scores.retrieval import to_pictures, world_records
from ...timing.record import Record
from .settings import Settings

SIZE = 32  # pixels
BACKWARD = 2  # a backward pass costs about two forward passes
NOT_LEARNED: tuple[None, None] = (None, None)  # in place of a mean and its interval


@dataclass(frozen=True)
class Design:
    """Strings and widths of a network with 0.96 M parameters, within 1 %."""

    stages: tuple[str, ...]
    widths: tuple[int, ...]

    def new_model(self) -> AsCANModel:
        """A network with new weights for `SIZE` pixels and fifty classes, on torch's current device."""
        return AsCANModel(
            stages=self.stages, widths=self.widths, stem_width=24, strides=(2, 1, 2, 2, 1), image_size=SIZE, head_dim=8,
            drop_path=0.0, num_classes=len(ALL_PAIRS),
        )  # fmt: skip

    def parameters(self) -> int:
        """Parameters of the network."""
        with torch.device("meta"):
            return count_parameters(self.new_model())

    @cached_property
    def gmacs(self) -> float:
        """GMACs of one picture."""
        with torch.device("meta"):
            return count_operations(self.new_model().eval(), torch.randn(1, 3, SIZE, SIZE)) / 2e9


OURS = "asymmetric"
DESIGNS = {
    OURS: Design(("CC", "CC", "CCTT", "TT"), (32, 64, 96, 128)),
    "symmetric": Design(("CT", "CT", "CTCT", "CT"), (32, 64, 96, 136)),
    "inverted": Design(("TT", "TT", "TTCC", "CC"), (32, 64, 96, 136)),
    "coatnet": Design(("CC", "CC", "TTTT", "TT"), (32, 64, 96, 120)),
}
WORDS = {
    OURS: "asymmetric", "symmetric": "symmetric", "inverted": "inverted (attention early)",
    "coatnet": "CoAtNet-like (C, C, T, T)",
}  # fmt: skip
TRAINING = ClassificationSettings(
    learning_rate=1e-3, weight_decay=0.05, label_smoothing=0.1, mixup=0.0, cutmix=0.0, turn=0.0, zoom=0.1, shift=0.1,
    mirror=True,
)  # fmt: skip
WARMUP_STEPS, EMA_DECAY = 50, 0.99


@dataclass(frozen=True)
class Training:
    """One training of a design.

    Attributes:
        name: of the design.
        seed: of its weights and of the order of pictures.
        compute: training compute after each number of steps, in TMACs (10^12 multiplications with addition).
        accuracy: held-out share of right classes after as many steps, of the averaged weights.
        error: why it came to no end, with nothing measured; None for a training that did.
    """

    name: str
    seed: int
    compute: tuple[float, ...]
    accuracy: tuple[float, ...]
    error: str | None = None

    def accuracy_at(self, compute: float) -> float:
        """Accuracy at a training compute between those measured, along the logarithm of compute."""
        return float(np.interp(np.log(compute), np.log(self.compute), self.accuracy))


def measure_ablation(settings: Settings, run: Run) -> Iterator[Row]:
    """Held-out accuracy of every design, at equal steps and at equal compute; draws ascan-ablation.png.

    What an interrupted run has learned is not learned again.
    """
    import_figure()
    runs = trained_runs(settings, run.record_path())
    errors = {name: one.error for name, of in runs.items() for one in of if one.error}
    reasons = {name: f" The {WORDS[name]} design failed: {error}." for name, error in errors.items()}
    learned = {name: of for name, of in runs.items() if name not in errors}
    steps, tested = settings.ablation_steps[-1], settings.ablation_test_pictures
    same: dict[str, Any] = {"unit": "share", "n": tested, "seed": 0}
    means = {name: _mean_and_interval([one.accuracy[-1] for one in of]) for name, of in learned.items()}
    for name in runs:
        claim = (
            f"Held-out accuracy among fifty classes of the {WORDS[name]} design {' / '.join(DESIGNS[name].stages)}: "
            f"{steps} steps, {settings.ablation_seeds} seeds, equal parameters.{reasons.get(name, '')}"
        )
        mean, interval = means.get(name, NOT_LEARNED)
        yield run.row(f"ablation-{name}", claim, measured=mean, interval=interval, **same)
    compute = min(training_compute(design, steps, settings) for design in DESIGNS.values())
    at = {name: _mean_and_interval([one.accuracy_at(compute) for one in of]) for name, of in learned.items()}
    mean, interval = at.get(OURS, NOT_LEARNED)
    for name in (name for name in runs if name != OURS):
        spent = f"{compute:.3g} TMACs of training"
        claim = f"Held-out accuracy of the asymmetric design after {spent}, at equal parameters."
        yield run.row(
            f"ablation-over-{name}", claim + reasons.get(OURS, "") + reasons.get(name, ""),
            measured=mean, interval=interval, rival=f"the {WORDS[name]} design",
            rival_measured=at.get(name, NOT_LEARNED)[0], **same,
        )  # fmt: skip
    if learned:
        _draw(learned, run.picture_path("ablation"))


def trained_runs(settings: Settings, path: Path) -> dict[str, list[Training]]:
    """Every run of every design, a seed of all designs before the next; kept in the record at `path`.

    One whose loss is no number any more has an error; it is learned anew the next time.
    """
    record, data = _record(settings, path), None
    done = {(one.name, one.seed): one for one in record.read(_read) if one.error is None}
    drafts = f"ablation-{protocol_hash(record.protocol)[:8]}"  # other settings have folders of their own
    for seed in range(settings.ablation_seeds):
        for name in DESIGNS:
            if (name, seed) not in done:
                data = data or ablation_data(settings)
                folder = path.parent / f"{drafts}-{name}-{seed}"
                try:
                    done[name, seed] = train_design(name, seed, settings, *data, folder)
                except FloatingPointError as error:
                    shutil.rmtree(folder)
                    done[name, seed] = Training(name, seed, (), (), error=str(error))
                record.write(done.values())
    return {name: [done[name, seed] for seed in range(settings.ablation_seeds)] for name in DESIGNS}


def ablation_data(settings: Settings) -> tuple[LabelledImages, LabelledImages]:
    """Pictures to learn from (split train_all) and held-out ones (split test)."""
    return (
        degraded_singles("train_all", settings.ablation_pictures, seed=1),
        degraded_singles("test", settings.ablation_test_pictures, seed=2),
    )


def degraded_singles(split: str, count: int, seed: int) -> LabelledImages:
    """The first pictures of a split that show one object, degraded, labelled by their place in `ALL_PAIRS`."""
    alone = (record for record in world_records(split, SIZE) if len(record.scene.objects) == 1)
    records = list(islice(alone, count))
    pictures = degrade(to_pictures(records), torch.Generator().manual_seed(seed))
    things = [record.scene.objects[0] for record in records]
    labels = torch.tensor([ALL_PAIRS.index((thing.color, thing.shape)) for thing in things])
    return LabelledImages(2 * pictures - 1, labels, tuple(map(" ".join, ALL_PAIRS)))


def train_design(
    name: str, seed: int, settings: Settings, train: LabelledImages, test: LabelledImages, folder: Path
) -> Training:
    """Trains a design step count after step count, each run going on from the last.

    Args:
        folder: where checkpoints and accuracies lie meanwhile; it is removed at the end.
    """
    design, batch = DESIGNS[name], settings.ablation_batch
    batches, known = shuffled_batches(len(train), batch, seed), folder / "accuracy.json"
    shares = read_json(known, list) if known.is_file() else []
    for steps in settings.ablation_steps[len(shares) :]:
        torch.manual_seed(seed)
        objective = Classification(design.new_model(), TRAINING, train)
        model = fit(objective, batches, _fit_settings(name, seed, steps, settings), folder, progress=False)["model"]
        shares.append(accuracy(model, test))
        write_json(known, shares)
    shutil.rmtree(folder)
    compute = tuple(training_compute(design, steps, settings) for steps in settings.ablation_steps)
    return Training(name, seed, compute, tuple(shares))


def training_compute(design: Design, steps: int, settings: Settings) -> float:
    """TMACs of so many training steps of a design."""
    return (1 + BACKWARD) * design.gmacs * settings.ablation_batch / 1e3 * steps


def _fit_settings(name: str, seed: int, steps: int, settings: Settings) -> FitSettings:
    data = {"pictures": settings.ablation_pictures, "batch": settings.ablation_batch}
    return FitSettings(
        steps=steps, seed=seed, warmup_steps=min(WARMUP_STEPS, settings.ablation_steps[0]), ema_decay=EMA_DECAY,
        save_every=steps, keep_checkpoints=1, channels_last=True,
        identity={"design": asdict(DESIGNS[name]), "training": asdict(TRAINING), **data},
    )  # fmt: skip


def _record(settings: Settings, path: Path) -> Record:
    return Record(path, {
        "steps": list(settings.ablation_steps),
        "pictures": settings.ablation_pictures,
        "test_pictures": settings.ablation_test_pictures,
        "batch": settings.ablation_batch,
        "designs": json.loads(json.dumps({name: asdict(design) for name, design in DESIGNS.items()})),
        "training": asdict(TRAINING),
    })  # fmt: skip


def _read(name: str, seed: int, compute: list[float], accuracy: list[float], error: str | None) -> Training:
    return Training(name, seed, tuple(compute), tuple(accuracy), error)


def _draw(runs: Mapping[str, Sequence[Training]], path: Path) -> None:
    lines = []
    for name, of in runs.items():
        points = [_mean_and_interval(values) for values in zip(*(run.accuracy for run in of), strict=True)]
        intervals = [interval for _, interval in points if interval is not None]
        lines.append(Line(WORDS[name], of[0].compute, [mean for mean, _ in points], intervals or None))
    draw_lines(
        path, "Fifty classes, degraded pictures, equal parameters",
        ("training compute, TMACs", "held-out accuracy"), lines, log=(True, False),
    )  # fmt: skip


def _mean_and_interval(shares: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Mean over seeds and its 95 % interval by Student's t, within [0, 1]; None for a single seed.

    Raises:
        ImportError: scipy is missing (extra eval).
    """
    mean = fmean(shares)
    if len(shares) < 2:
        return mean, None
    low, high = student_interval(shares)
    return mean, (max(0.0, low), min(1.0, high))
