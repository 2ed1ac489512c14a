"""CLIP score: the cosine between a picture and its caption, by a CLIP model that the result names."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPConfig

from ..instruments.clip import ClipPictures, PictureScaling
from ..intervals import bootstrap_interval

Compat = Literal["fixed", "official"]

_TOWER = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
OFFICIAL_BACKBONE = {
    "text_config": {
        **_TOWER, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8,
        "max_position_embeddings": 77, "vocab_size": 49408,
    },
    "vision_config": {
        **_TOWER, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_channels": 3,
        "image_size": 224, "patch_size": 32,
    },
}  # fmt: skip
"""What OpenAI's ViT-B/32 computes, in the fields of a `CLIPConfig`; its `projection_dim` is 512."""
OFFICIAL_END = (49407, 2)
"""Number of the token where a text's vector is read; 2 is how older files say the same of this vocabulary."""
OFFICIAL_SCALING = PictureScaling(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""How its pictures are scaled."""


@dataclass(frozen=True)
class ClipScore:
    """A CLIP score with what it means.

    Attributes:
        clip_score: mean cosine over the pairs, within [-1, 1], times `scale`; not clipped at 0.
        interval: 95 % interval of the mean; None for a single pair.
        backbone: folder name or Hub id of the CLIP model, and its kind; scores of two backbones are not comparable.
        scale: factor of the cosine, always 1.
        compat: "fixed" or "official".
        n: pairs that were scored.
        truncated: captions of which the model read only the beginning.
    """

    clip_score: float
    interval: tuple[float, float] | None
    backbone: str
    scale: float
    compat: Compat
    n: int
    truncated: int

    def to_record(self) -> dict[str, Any]:
        """The score as a JSON object."""
        return {**asdict(self), "interval": None if self.interval is None else list(self.interval)}


class ClipScorer:
    """Scores pictures by their captions.

    Args:
        model: folder or Hub id of a `transformers.CLIPModel` with its tokenizer, or the name of a checkpoint of this
            package. A `preprocessor_config.json` in it says how pictures are scaled; without one they are scaled to
            [-1, 1], as clip-nano and clip-nano-judge expect.
        compat: "official" is the protocol of text2image-benchmark: the architecture and picture scaling of OpenAI's
            ViT-B/32 and no other, and a caption that is too long is an error; whose weights these are, it cannot see.
            "fixed" takes any backbone and counts captions that were cut.

    Raises:
        ValueError: an unknown `compat`, or another backbone than "official" demands.
        OSError: `model` is no CLIP model, or cannot be reached.
    """

    def __init__(self, model: str | Path = "clip-nano-judge", compat: Compat = "fixed"):
        if compat not in get_args(Compat):
            raise ValueError(f"compat must be one of {', '.join(get_args(Compat))}, not {compat!r}.")
        self.compat, self.clip = compat, ClipPictures(model, batch_size=250)
        vision = self.clip.config.vision_config
        self.backbone = f"{self.clip.name}: ViT {vision.hidden_size}/{vision.patch_size} at {vision.image_size}"
        if compat == "official":
            self._check_official()

    def score(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> ClipScore:
        """The mean score of pictures, each with its caption.

        Raises:
            ValueError: no pairs, unequally many pictures and captions, something that is no picture, or, with compat
                "official", a caption that is too long.
        """
        if not pictures or len(pictures) != len(captions):
            raise ValueError(f"there are {len(pictures)} pictures and {len(captions)} captions; they must be pairs.")
        truncated = self._count_truncated(captions)
        if truncated and self.compat == "official":
            raise ValueError(f"{truncated} captions are too long for {self.backbone}: compat 'official' cuts none.")
        vectors = F.normalize(self.clip.encode_pictures(pictures), dim=-1)
        cosines = (vectors * self.clip.encode_texts(captions)).sum(dim=1).double().tolist()
        interval = bootstrap_interval(cosines) if len(cosines) > 1 else None
        mean = float(np.mean(cosines))
        return ClipScore(mean, interval, self.backbone, 1.0, self.compat, len(cosines), truncated)

    def _count_truncated(self, captions: Sequence[str]) -> int:
        length = self.clip.config.text_config.max_position_embeddings
        return sum(len(tokens) > length for tokens in self.clip.tokenizer(list(captions)).input_ids)

    def _check_official(self) -> None:
        faults = official_faults(self.clip.config, self.clip.scaling)
        if faults:
            raise ValueError(
                f"compat 'official' needs OpenAI's ViT-B/32, such as openai/clip-vit-base-patch32; model is "
                f"{self.backbone}, where {faults[0]}."
            )


def official_faults(config: CLIPConfig, scaling: PictureScaling) -> list[str]:
    """In what a CLIP model computes something else than OpenAI's ViT-B/32, in clauses; nothing if it is the same.

    Numbers that do not change a cosine, such as the temperature and dropout, are not looked at, nor are the weights.
    """
    expected = {("projection_dim",): (512,), ("text_config", "eos_token_id"): OFFICIAL_END}
    for tower, fields in OFFICIAL_BACKBONE.items():
        expected |= {(tower, field): (value,) for field, value in fields.items()}
    faults = []
    for path, allowed in expected.items():
        found = reduce(getattr, path, config)
        if found not in allowed:
            faults.append(f"{'.'.join(path)} is {found!r} and not {allowed[0]!r}")
    if scaling != OFFICIAL_SCALING:
        faults.append(f"pictures are scaled as {scaling} and not as {OFFICIAL_SCALING}")
    return faults
