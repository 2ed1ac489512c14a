"""CLIP models as instruments: unit vectors of tensors and of texts, and embeddings of pictures of any size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel

from ... import checkpoint
from ...pipelines.files import read_json
from ...pipelines.recognition.image_text_encoder import ImageTextEncoder, preprocessor_file
from ...pipelines.recognition.picture_input import rgb_picture


class Encoder(Protocol):
    """What maps pictures and texts into one space, where near means fitting."""

    def encode_images(self, pictures: Float[Tensor, "count 3 height width"]) -> Float[Tensor, "count dim"]: ...

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "count dim"]: ...


class ClipPictures:
    """Embeddings in float32 of PIL pictures of any size, read as the model's own preprocessing says, and of texts.

    Args:
        model: folder or Hub id of a `transformers.CLIPModel` with its tokenizer, or the name of a checkpoint of this
            package. A `preprocessor_config.json` in it says how pictures are scaled; without one they are scaled to
            [-1, 1], as clip-nano and clip-nano-judge expect.
        batch_size: pictures that are encoded together, at least 1.

    Raises:
        OSError: `model` is no CLIP model, or cannot be reached.
        ValueError: for a batch size below 1.
    """

    def __init__(self, model: str | Path = "clip-nano-judge", batch_size: int = 64):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
        source = clip_source(model)
        self.name, self.batch_size = Path(str(model)).name, batch_size
        self.clip = CLIPModel.from_pretrained(source, dtype=torch.float32, use_safetensors=True).eval()
        self.config, self.tokenizer = self.clip.config, AutoTokenizer.from_pretrained(source)
        self.scaling = PictureScaling.of(source, self.config.vision_config.image_size)
        self._texts = ImageTextEncoder(self.clip, self.tokenizer)

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[Image.Image]) -> Float[Tensor, "count dim"]:
        """Projected embeddings, not normalised.

        Raises:
            ValueError: for no pictures, or something that is none.
        """
        if not len(pictures):
            raise ValueError("pictures is empty; give at least one.")
        parts = [pictures[start : start + self.batch_size] for start in range(0, len(pictures), self.batch_size)]
        return torch.cat([self._encode(torch.stack([self.scaling.pixels(each) for each in part])) for part in parts])

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "count dim"]:
        """Unit vectors of texts."""
        return self._texts.encode_texts(texts)

    def _encode(self, pixels: Float[Tensor, "count 3 side side"]) -> Float[Tensor, "count dim"]:
        return self.clip.visual_projection(self.clip.vision_model(pixels).pooler_output)


@dataclass(frozen=True)
class PictureScaling:
    """Shortest side to `side` by bicubic interpolation, the square in the middle, then (x - mean) / std."""

    side: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @classmethod
    def of(cls, source: str | Path, side: int) -> "PictureScaling":
        """The scaling of a CLIP model's `preprocessor_config.json`, or to [-1, 1] without one."""
        path = preprocessor_file(source)
        if path is None:
            return cls(side)
        config = read_json(path, dict)
        return cls(side, tuple(config["image_mean"]), tuple(config["image_std"]))

    def pixels(self, picture: Image.Image) -> Float[Tensor, "3 side side"]:
        """The network's input.

        Raises:
            ValueError: for something that is no PIL image.
        """
        if not isinstance(picture, Image.Image):
            raise ValueError(f"a picture must be a PIL image, not {type(picture).__name__}.")
        picture = rgb_picture(picture)
        short = min(picture.size)
        if short != self.side:
            size = tuple(max(self.side, int(length * self.side / short)) for length in picture.size)
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = (round((length - self.side) / 2) for length in picture.size)
        square = np.asarray(picture.crop((left, top, left + self.side, top + self.side)), np.float32) / 255
        return torch.from_numpy((square - self.mean) / self.std).permute(2, 0, 1).float()


def clip_source(model: str | Path) -> str | Path:
    """Where the model of a folder, a checkpoint's name or a Hub id lies.

    Raises:
        FileNotFoundError: a folder without a CLIP model in it.
    """
    if Path(model).is_dir():
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (Path(model) / name).is_file():
                raise FileNotFoundError(f"model {str(model)!r} is no CLIP model: {name} is missing.")
        return model
    try:
        return checkpoint(str(model))
    except ValueError:
        return str(model)
