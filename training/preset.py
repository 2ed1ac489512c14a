"""What a stage of a recipe is told: named numbers, each of which the command line may change."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import NoneType
from typing import Any, get_args

from .. import unknown_name
from ..pipelines.inputs import require
from .loop import TrainSettings

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What every stage is told.

    Attributes:
        source: "pocketworld", which is held in memory, or a source of `streamed_batches`; "" waits for one.
        split: of the source; of PocketWorld also several, joined by "+".
        num_pictures: of each split of PocketWorld, at least 1; other sources are read whole.
        image_column, caption_column: of other sources.
        init: folder of a model to go on from, or of the repository that holds it; "" starts from new weights.
        image_size: pixels a side, a multiple of 8.
        batch_size: pictures in a micro step of one process, at least 1.
        steps, warmup_steps, ema_decay, mixed_precision, gradient_accumulation_steps, compile: see `TrainSettings`.
        learning_rate: its peak, above 0; it falls along a cosine.
        seed: of weights, data order and noise.
        skip_bad_rows: go on where a row of another source cannot be read, and count it, rather than stop.
        save_every: see `TrainSettings`.

    Raises:
        ValueError: a number out of its range, naming it.
    """

    source: str = "pocketworld"
    split: str = "train"
    num_pictures: int = 72_000
    image_column: str = "image"
    caption_column: str = "text"
    init: str = ""
    image_size: int = 64
    batch_size: int = 128
    steps: int = 1000
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    ema_decay: float | None = None
    mixed_precision: str = "bf16"
    gradient_accumulation_steps: int = 1
    compile: bool = False
    seed: int = 0
    skip_bad_rows: bool = False
    save_every: int = 500

    def __post_init__(self):
        for name in ("num_pictures", "batch_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        size = self.image_size
        require(size >= 8 and size % 8 == 0, "image_size", size, "a multiple of 8")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        self.settings()

    def settings(self, **frequencies: int) -> TrainSettings:
        """The loop's settings; `frequencies` are its `log_every` and `preview_every`."""
        free = ("steps", "compile", "skip_bad_rows", "save_every")  # a run may go on with others
        return TrainSettings(
            steps=self.steps,
            seed=self.seed,
            schedule="cosine",
            warmup_steps=min(self.warmup_steps, self.steps),
            ema_decay=self.ema_decay,
            mixed_precision=self.mixed_precision,
            gradient_accumulation_steps=self.gradient_accumulation_steps,
            compile=self.compile,
            channels_last=True,
            save_every=self.save_every,
            identity={name: value for name, value in asdict(self).items() if name not in free},
            **frequencies,
        )


def configure(
    presets: Mapping[str, Preset],
    name: str,
    seed: int | None = None,
    overrides: Mapping[str, str] | None = None,
    called: str = "setting",
) -> Preset:
    """A preset of a stage with other values.

    Args:
        presets: those of the stage.
        name: one of them.
        seed: in place of the preset's.
        overrides: field -> its value as text, read as the field's type; "none" where there may be none.
        called: what an unknown field is called in its error.

    Raises:
        ValueError: an unknown preset or field, or a value that does not fit; names it and what there is.
    """
    if name not in presets:
        raise unknown_name("preset", name, presets)
    kinds = {entry.name: entry.type for entry in fields(presets[name])}
    values = {} if seed is None else {"seed": seed}
    for field, text in (overrides or {}).items():
        if field not in kinds:
            raise unknown_name(called, field, kinds)
        values[field] = _read(field, text, kinds[field])
    return replace(presets[name], **values)


def _read(name: str, text: str, kind: Any) -> Any:
    may_be_none = NoneType in get_args(kind)
    if may_be_none and text.lower() == "none":
        return None
    kind = get_args(kind)[0] if may_be_none else kind
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ValueError(f"{name} must be {_WORDS[kind]}{' or none' * may_be_none}, not {text!r}") from None
