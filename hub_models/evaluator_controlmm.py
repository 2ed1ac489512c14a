"""The evaluator of text-to-motion research: motions and texts in one space, where near means fitting.

Guo et al., "Generating Diverse and Natural 3D Human Motions from Text" (CVPR 2022). R-precision, matching score, FID,
diversity and multimodality of motions are all measured in its space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.utils import BaseOutput
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from .pickled_weights_controlmm import read_pickled_weights
from .presets import PresetMixin

CONTACTS = 4  # the last features, which foot touches the ground, are not looked at
FRAMES_A_MOVEMENT = 4
SLOPE = 0.2  # of leaky ReLUs, below 0


@dataclass
class MotionTextOutput(BaseOutput):
    """Output of `MotionTextEvaluator`.

    Attributes:
        motion: embeddings of motions, [batch, dim].
        text: embeddings of texts, [batch, dim]; row i belongs to row i of `motion`.
    """

    motion: Tensor
    text: Tensor


class MotionTextEvaluator(ModelMixin, ConfigMixin, PresetMixin):
    """A movement encoder of convolutions and two encoders of bidirectional GRUs.

    Embeddings come in the order of their inputs, and depend neither on other rows of a batch nor on what padding holds.

    Args:
        num_features: features of a frame: 263 of HumanML3D, 251 of KIT-ML; the last four, of foot contact, are not
            looked at.
        max_frames: what clips are padded to with zeros. Where a clip ends, its last movement sees two frames more.
        vocabulary_size: words whose vectors are learned; None for a model that is given word vectors, as Guo et al.'s
            is given GloVe's.
        word_dim: width of word vectors.
        pos_dim: parts of speech that a word is marked with; 0 for words alone.
        movement_dim: width of the movement encoder.
        motion_hidden_dim, text_hidden_dim: units of either GRU in each direction.
        embedding_dim: width of the space where motions and texts meet.
        dropout: of the movement encoder, in training.

    Raises:
        ValueError: for a value that is out of range, naming it.
    """

    _supports_gradient_checkpointing = True

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "nano": {
            "vocabulary_size": 512,
            "word_dim": 64,
            "pos_dim": 0,
            "movement_dim": 96,
            "motion_hidden_dim": 128,
            "text_hidden_dim": 96,
            "embedding_dim": 128,
        },
        "paper": {},
    }

    @register_to_config
    def __init__(
        self,
        num_features: int = 263,
        max_frames: int = 196,
        vocabulary_size: int | None = None,
        word_dim: int = 300,
        pos_dim: int = 15,
        movement_dim: int = 512,
        motion_hidden_dim: int = 1024,
        text_hidden_dim: int = 512,
        embedding_dim: int = 512,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        _check(**self._internal_dict)
        self.gradient_checkpointing = False  # diffusers asks every model for it; this one has nothing worth sparing
        self.word_vectors = None if vocabulary_size is None else nn.Embedding(vocabulary_size, word_dim)
        self.movement_encoder = MovementEncoder(num_features - CONTACTS, movement_dim, dropout)
        self.motion_encoder = BiGRUEncoder(movement_dim, motion_hidden_dim, embedding_dim)
        self.text_encoder = BiGRUEncoder(word_dim, text_hidden_dim, embedding_dim, pos_dim)

    def forward(
        self,
        features: Float[Tensor, "batch frames features"],
        lengths: Int[Tensor, " batch"],
        words: Shaped[Tensor, "batch words *word_dim"],
        word_counts: Int[Tensor, " batch"],
        parts_of_speech: Float[Tensor, "batch words pos"] | None = None,
    ) -> MotionTextOutput:
        """Both embeddings; see `embed_motion` and `embed_text`."""
        text = self.embed_text(words, word_counts, parts_of_speech)
        return MotionTextOutput(motion=self.embed_motion(features, lengths), text=text)

    def embed_motion(
        self, features: Float[Tensor, "batch frames features"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """Where motions lie.

        Args:
            features: normalised by the statistics that the evaluator was trained with; anything beyond a clip's end.
            lengths: frames of each clip, from 4 to `max_frames`; what is beyond a multiple of 4 counts for little.

        Raises:
            ValueError: features of another width, or a length out of range.
        """
        batch, frames, width = features.shape
        if width != self.config.num_features:
            raise ValueError(f"features must have {self.config.num_features} a frame, not {width}.")
        longest = self.config.max_frames
        lengths = _checked_lengths("lengths", lengths, batch, FRAMES_A_MOVEMENT, min(frames, longest))
        inside = torch.arange(frames) < lengths[:, None]
        clips = features[..., :-CONTACTS].masked_fill(~inside[..., None].to(features.device), 0.0)
        clips = nn.functional.pad(clips, (0, 0, 0, longest - frames))  # or cuts padding off
        return self.motion_encoder(self.movement_encoder(clips), lengths // FRAMES_A_MOVEMENT)

    def embed_text(
        self,
        words: Shaped[Tensor, "batch words *word_dim"],
        word_counts: Int[Tensor, " batch"],
        parts_of_speech: Float[Tensor, "batch words pos"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """Where texts lie.

        Args:
            words: numbers of words [batch, words], or vectors [batch, words, word_dim] for a model without a
                vocabulary; anything in range beyond a text's end.
            word_counts: words of each text with its markers of start and end, at least 1.
            parts_of_speech: one-hot, for a model with `pos_dim`.

        Raises:
            ValueError: words or parts of speech of another kind or shape, or a count out of range.
        """
        vectors = self._vectors(words)
        counts = _checked_lengths("word_counts", word_counts, len(words), 1, words.shape[1])
        wanted = [*words.shape[:2], self.config.pos_dim] if self.config.pos_dim else None
        given = None if parts_of_speech is None else list(parts_of_speech.shape)
        if given != wanted:
            raise ValueError(f"parts_of_speech must be {wanted}, not {given}.")
        return self.text_encoder(vectors, counts, parts_of_speech)

    @classmethod
    def from_guo(cls, path: str | Path, **overrides: Any) -> Self:
        """The evaluator of Guo et al.'s `text_mot_match/model/finest.tar`, ready to measure.

        Args:
            path: of the file, whose pickle is read as `read_pickled_weights` does.
            overrides: of the preset "paper", such as `num_features=251` for KIT-ML's.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, or of another model.
        """
        with torch.device("meta"):
            model = cls.from_preset("paper", **overrides)
        parts = {name: getattr(model, name) for name in ("movement_encoder", "motion_encoder", "text_encoder")}
        shapes = {part: {k: v.shape for k, v in module.state_dict().items()} for part, module in parts.items()}
        weights = read_pickled_weights(path, shapes)
        model = cls.from_preset("paper", **overrides)
        for part in parts:
            getattr(model, part).load_state_dict(weights[part])
        return model.eval()

    def _vectors(self, words: Tensor) -> Float[Tensor, "batch words dim"]:
        vocabulary, width = self.config.vocabulary_size, self.config.word_dim
        if vocabulary is None:
            if words.ndim != 3 or words.shape[-1] != width or not words.is_floating_point():
                raise ValueError(
                    f"words must be vectors [batch, words, {width}], not {words.dtype} {list(words.shape)}."
                )
            return words
        if words.ndim != 2 or words.is_floating_point():
            raise ValueError(f"words must be numbers [batch, words], not {words.dtype} {list(words.shape)}.")
        if words.numel() and not 0 <= int(words.min()) <= int(words.max()) < vocabulary:
            raise ValueError(f"words must be from 0 to {vocabulary - 1}, not {int(words.min())} to {int(words.max())}.")
        return self.word_vectors(words)


class MovementEncoder(nn.Module):
    """Frames to movements, one for each four, each of which sees ten. Names are those of published weights."""

    def __init__(self, features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv1d(features, width, 4, stride=2, padding=1),
            nn.Dropout(dropout),
            nn.LeakyReLU(SLOPE),
            nn.Conv1d(width, width, 4, stride=2, padding=1),
            nn.Dropout(dropout),
            nn.LeakyReLU(SLOPE),
        )
        self.out_net = nn.Linear(width, width)

    def forward(self, frames: Float[Tensor, "batch frames features"]) -> Float[Tensor, "batch movements width"]:
        return self.out_net(self.main(frames.mT).mT)


class BiGRUEncoder(nn.Module):
    """Sequences to vectors: the last states of a GRU in both directions, from learned first states.

    Names are those of published weights.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, pos_dim: int = 0) -> None:
        super().__init__()
        self.pos_emb = nn.Linear(pos_dim, inputs) if pos_dim else None
        self.input_emb = nn.Linear(inputs, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.output_net = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, outputs)
        )
        self.hidden = nn.Parameter(torch.randn(2, 1, hidden))

    def forward(
        self,
        items: Float[Tensor, "batch items inputs"],
        lengths: Int[Tensor, " batch"],
        parts_of_speech: Float[Tensor, "batch items pos"] | None = None,
    ) -> Float[Tensor, "batch outputs"]:
        """Args: `lengths` on the CPU, at least 1; `parts_of_speech` where there is a layer for them."""
        if parts_of_speech is not None:
            items = items + self.pos_emb(parts_of_speech.to(items.dtype))
        packed = pack_padded_sequence(self.input_emb(items), lengths, batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed, self.hidden.expand(-1, len(items), -1).contiguous())  # [2, batch, hidden]
        return self.output_net(torch.cat([last[0], last[1]], dim=-1))


def _checked_lengths(name: str, lengths: Sequence[int] | Tensor, batch: int, low: int, high: int) -> Int[Tensor, " n"]:
    """On the CPU, where packing wants them."""
    lengths = torch.as_tensor(lengths).cpu()
    if lengths.shape != (batch,) or lengths.is_floating_point():
        raise ValueError(f"{name} must be {batch} whole numbers, not {lengths.dtype} {list(lengths.shape)}.")
    if not batch or not low <= int(lengths.min()) <= int(lengths.max()) <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {lengths.tolist()}.")
    return lengths


def _check(**options: Any) -> None:
    lowest = {
        "num_features": CONTACTS + 1, "max_frames": FRAMES_A_MOVEMENT, "word_dim": 1, "pos_dim": 0, "movement_dim": 1,
        "motion_hidden_dim": 1, "text_hidden_dim": 1, "embedding_dim": 1,
    }  # fmt: skip
    for name, low in lowest.items():
        if options[name] < low:
            raise ValueError(f"{name} must be at least {low}, not {options[name]!r}.")
    if options["vocabulary_size"] is not None and options["vocabulary_size"] < 1:
        raise ValueError(f"vocabulary_size must be None or at least 1, not {options['vocabulary_size']!r}.")
    if not 0 <= options["dropout"] < 1:
        raise ValueError(f"dropout must be in [0, 1), not {options['dropout']!r}.")
