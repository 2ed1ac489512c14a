"""A CLIP of the nano models: unit vectors of pictures and of texts in one space, where near means fitting."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerBase

from ..files import read_json
from ..repository import is_local_path


class ImageTextEncoder:
    """Unit vectors by a `CLIPModel`.

    Args:
        clip: the model.
        tokenizer: its tokenizer.
        batch_size: pictures or texts that are encoded together.
        mean, std: by which pictures in [0, 1] are scaled for it; the defaults make [-1, 1], from which clip-nano and
            clip-nano-judge learned.
    """

    def __init__(
        self,
        clip: CLIPModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 250,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ):
        self.clip, self.tokenizer, self.batch_size = clip.eval(), tokenizer, batch_size
        self.mean, self.std = (torch.tensor(list(values)).view(1, 3, 1, 1) for values in (mean, std))

    @classmethod
    def from_folder(cls, folder: str | Path) -> "ImageTextEncoder":
        """The encoder in a folder with a `CLIPModel` and its tokenizer, in float32.

        Raises:
            FileNotFoundError: when the folder or its weights are missing.
        """
        folder = Path(folder)
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder / name} is missing: train it with `pocket train encoders`.")
        clip = CLIPModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        return cls(clip, AutoTokenizer.from_pretrained(folder))

    @classmethod
    def from_pretrained(cls, source: str | Path) -> "ImageTextEncoder":
        """The encoder of a folder or a Hub id, scaling as its `preprocessor_config.json` says, if it has one.

        Raises:
            FileNotFoundError: there is no such folder, or a file of it is missing.
            OSError: weights are missing, or a Hub id cannot be reached.
            ValueError: the weights are not those of the CLIP that its config describes.
        """
        if is_local_path(source):
            _check_files(Path(source))
        file = preprocessor_file(source)
        scaling = {} if file is None else read_json(file, dict)
        named = {"mean": "image_mean", "std": "image_std"}
        clip = _whole_clip(source)
        tokenizer = AutoTokenizer.from_pretrained(source)
        return cls(clip, tokenizer, **{name: scaling[key] for name, key in named.items() if key in scaling})

    @torch.no_grad()
    def encode_images(self, pictures: Float[Tensor, "count 3 height width"]) -> Float[Tensor, "count dim"]:
        """Unit vectors of pictures in [0, 1]; those of another size than the model's are resampled to it.

        Raises:
            ValueError: for another shape or range.
        """
        if pictures.ndim != 4 or pictures.shape[1] != 3 or len(pictures) == 0:
            raise ValueError(f"pictures must be [count, 3, height, width], not {list(pictures.shape)}.")
        if not (pictures.min() >= 0 and pictures.max() <= 1):
            low, high = pictures.min().item(), pictures.max().item()
            raise ValueError(f"pictures lie within [{low:.3g}, {high:.3g}]; they must lie within [0, 1].")
        return torch.cat([self._embed_images(part) for part in pictures.float().split(self.batch_size)])

    def _embed_images(self, pictures: Tensor) -> Tensor:
        side = self.clip.config.vision_config.image_size
        if pictures.shape[-2:] != (side, side):
            pictures = F.interpolate(pictures, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
        pooled = self.clip.vision_model(pixel_values=(pictures - self.mean) / self.std).pooler_output
        return F.normalize(self.clip.visual_projection(pooled), dim=-1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "count dim"]:
        """Unit vectors of texts; what a text has beyond the model's length in tokens is not read.

        Raises:
            ValueError: for no texts.
        """
        texts = list(texts)
        if not texts:
            raise ValueError("texts is empty; give at least one.")
        parts = [texts[i : i + self.batch_size] for i in range(0, len(texts), self.batch_size)]
        return torch.cat([self._embed_texts(part) for part in parts])

    def _embed_texts(self, texts: list[str]) -> Tensor:
        length = self.clip.config.text_config.max_position_embeddings
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        pooled = self.clip.text_model(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        return F.normalize(self.clip.text_projection(pooled), dim=-1)

    def similarity(
        self, pictures: Float[Tensor, "count 3 height width"], texts: Sequence[str]
    ) -> Float[Tensor, " count"]:
        """The cosine of each picture with its own text."""
        return (self.encode_images(pictures) * self.encode_texts(texts)).sum(1)


def _check_files(folder: Path) -> None:
    """Refuses a folder in whose place transformers would make up a CLIP of its own, or say nothing that is of use."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} must be a folder with a CLIP model, which it is not.")
    tokenizers = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    wanted = next((names for names in tokenizers if all((folder / name).is_file() for name in names)), tokenizers[0])
    for name in ("config.json", *wanted):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing.")


def _whole_clip(source: str | Path) -> CLIPModel:
    """A model none of whose weights transformers has drawn at random, for they were missing."""
    try:
        clip, loading = CLIPModel.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except RuntimeError:
        raise ValueError(f"{source} must hold weights of the sizes that its config.json says.") from None
    if loading["missing_keys"]:
        raise ValueError(
            f"{source} must hold the weights of a CLIP model, but {min(loading['missing_keys'])} is missing."
        )
    return clip


def preprocessor_file(source: str | Path) -> Path | None:
    """The file that says how pictures are scaled for the CLIP of a folder or Hub id; None where there is none."""
    name = "preprocessor_config.json"
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    from transformers.utils import cached_file

    found = cached_file(str(source), name, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)
