"""CLIP models of our own: their tokenizer, their shape and the objective that trains them."""

import json
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from ..datasets.captioned_images import CaptionedImages
from ..datasets.pocketworld.descriptions import RELATIONS
from ..datasets.pocketworld.scene import MAX_OBJECTS, SHAPES
from .matching import matching_loss

SPECIAL_TOKENS = {
    "pad_token": "<pad>",
    "bos_token": "<|startoftext|>",
    "unk_token": "<unk>",
    "eos_token": "<|endoftext|>",
}
MAX_COUNTS = MAX_OBJECTS + 1  # 0 to 6 objects of a shape
MAX_LOGIT_SCALE = 4.6  # logarithm of about 100, where CLIP's temperature is clipped


@dataclass(frozen=True, kw_only=True)
class ClipSize:
    """Widths and depths of a small CLIPModel.

    Attributes:
        text_width, text_layers: of the text tower; its width is what generators are conditioned on.
        vision_width, vision_layers: of the vision tower.
        heads: of attention in both.
        image_size, patch_size: pixels.
        projection: width of the space where pictures and texts meet.
        tokens: longest text, with its start and end.
    """

    text_width: int = 128
    text_layers: int = 3
    vision_width: int = 128
    vision_layers: int = 4
    heads: int = 4
    patch_size: int = 8
    image_size: int = 64
    projection: int = 128
    tokens: int = 24

    def config(self, vocabulary: int, ids: dict[str, int]) -> CLIPConfig:
        """The configuration for a tokenizer with so many tokens and these ids of special ones."""
        text = {
            "vocab_size": vocabulary,
            "hidden_size": self.text_width,
            "intermediate_size": 3 * self.text_width,
            "num_hidden_layers": self.text_layers,
            "num_attention_heads": self.heads,
            "max_position_embeddings": self.tokens,
            "projection_dim": self.projection,
            **ids,
        }
        vision = {
            "hidden_size": self.vision_width,
            "intermediate_size": 3 * self.vision_width,
            "num_hidden_layers": self.vision_layers,
            "num_attention_heads": self.heads,
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "projection_dim": self.projection,
        }
        return CLIPConfig(text_config=text, vision_config=vision, projection_dim=self.projection)


def train_tokenizer(captions: Iterable[str], tokens: int, vocabulary: int = 640) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, lower case, that frames every text with start and end as CLIP does.

    Bytes are its alphabet, so any text can be said, though only words of `captions` are single tokens.

    Args:
        captions: texts to learn from.
        tokens: longest text, with its start and end.
        vocabulary: most tokens it may have, the 256 bytes and 4 special ones among them.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    bos, eos = SPECIAL_TOKENS["bos_token"], SPECIAL_TOKENS["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        special_tokens=[(bos, tokenizer.token_to_id(bos)), (eos, tokenizer.token_to_id(eos))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=tokens, padding_side="right", **SPECIAL_TOKENS
    )


def new_clip(size: ClipSize, tokenizer: PreTrainedTokenizerFast, attention: str = "eager") -> CLIPModel:
    """A CLIPModel with random weights for a tokenizer. On a CPU the eager form trains fastest in bf16."""
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = size.config(len(tokenizer), ids)
    config._attn_implementation = attention
    return CLIPModel(config)


@dataclass(frozen=True)
class DenseClipOutput:
    """What a `DenseClip` says of a batch, in float32.

    Attributes:
        image, text: unit vectors of pictures and texts.
        scale: of their products.
        patches: logits of what each patch shows, 0 for no object, else 1 + a pair.
        counts: logits of how many objects of each shape there are.
        relations: logits of how the first shape stands to the second, for each ordered pair of shapes.
    """

    image: Float[Tensor, "batch dim"]
    text: Float[Tensor, "batch dim"]
    scale: Float[Tensor, ""]
    patches: Float[Tensor, "batch patches classes"]
    counts: Float[Tensor, "batch shapes counts"]
    relations: Float[Tensor, "batch shape_pairs relations"]


class DenseClip(nn.Module):
    """A CLIPModel with heads that help training and are thrown away.

    One names what each patch shows. The others read from the whole picture how many objects of each shape there are,
    and in which relation a pair of shapes stands: what the contrast alone teaches slowly.

    Args:
        clip: the model.
        classes: that a patch may show.
    """

    def __init__(self, clip: CLIPModel, classes: int):
        super().__init__()
        self.clip = clip
        width, shapes = clip.config.vision_config.hidden_size, len(SHAPES)
        self.patch_head = nn.Linear(width, classes)
        self.count_head = nn.Linear(width, shapes * MAX_COUNTS)
        self.relation_head = nn.Linear(width, shapes * shapes * len(RELATIONS))

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> DenseClipOutput:
        vision = self.clip.vision_model(pixel_values=pixel_values)
        text = self.clip.text_model(input_ids=input_ids, attention_mask=attention_mask)
        return DenseClipOutput(
            image=F.normalize(self.clip.visual_projection(vision.pooler_output).float(), dim=-1),
            text=F.normalize(self.clip.text_projection(text.pooler_output).float(), dim=-1),
            scale=self.clip.logit_scale.float().clamp(max=MAX_LOGIT_SCALE).exp(),
            patches=self.patch_head(vision.last_hidden_state[:, 1:]).float(),
            counts=self.count_head(vision.pooler_output).float().unflatten(1, (len(SHAPES), -1)),
            relations=self.relation_head(vision.pooler_output).float().unflatten(1, (-1, len(RELATIONS))),
        )


def contrastive_loss(
    image: Float[Tensor, "batch dim"],
    text: Float[Tensor, "batch dim"],
    scale: Float[Tensor, ""],
    groups: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """`matching_loss` of the products of unit vectors, as CLIP has it.

    Captions that claim the same are no negatives of each other, though their words may differ.

    Args:
        image, text: unit vectors; row i of one belongs to row i of the other.
        scale: of their products.
        groups: number of what each caption claims.
    """
    return matching_loss(scale * image @ text.T, groups)


def patch_labels(pair_maps: UInt8[Tensor, "count size size"], patch: int) -> Int[Tensor, "count patches"]:
    """Which pair each patch shows, 0 unless objects cover more than a sixth of it.

    Where objects of several pairs do, it is the one at the sixth of the patch's pixels, ordered by pair.
    """
    count, size, _ = pair_maps.shape
    side = size // patch
    blocks = pair_maps.view(count, side, patch, side, patch).transpose(2, 3).reshape(count, side * side, -1)
    background_last = torch.where(blocks == 0, 255, blocks.long())
    label = background_last.sort(dim=-1).values[..., patch * patch // 6]
    return torch.where(label == 255, 0, label)


class Contrastive:
    """An objective (see `pipelines.fitting.loop.Objective`): pictures find their captions; batches are indices.

    Args:
        clip: what learns.
        tokenizer: its tokenizer.
        data: with `pair_maps`.
        learning_rate: peak.
        dense_weight: of the losses of the other heads (see `DenseClip`), beside the contrastive one.
    """

    def __init__(
        self,
        clip: CLIPModel,
        tokenizer: PreTrainedTokenizerFast,
        data: CaptionedImages,
        learning_rate: float,
        dense_weight: float,
    ):
        self.data, self.learning_rate, self.dense_weight = data, learning_rate, dense_weight
        classes = int(data.pair_maps.max()) + 1
        self.parts: dict[str, nn.Module] = {"clip": DenseClip(clip, classes)}
        tokens = tokenizer(list(data.captions), padding="max_length", truncation=True, return_tensors="pt")
        length = int(tokens.attention_mask.sum(1).max())
        self.input_ids, self.attention_mask = tokens.input_ids[:, :length], tokens.attention_mask[:, :length]
        records = [json.loads(text) for text in data.metadata]
        self.groups = numbered(claim(record) for record in records)
        self.counts = torch.tensor([shape_counts(record) for record in records])  # [N, shapes]
        self.relations = torch.tensor([claimed_relation(record) for record in records])  # [N, 2]
        vision = clip.config.vision_config
        labels = patch_labels(data.pair_maps, vision.patch_size).to(torch.uint8)
        self.labels = labels.unflatten(1, (-1, vision.image_size // vision.patch_size))  # [N, rows, columns]
        self.mirrors = torch.tensor([can_be_mirrored(record) for record in records])

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.parts[part].parameters(), self.learning_rate, betas=(0.9, 0.98), weight_decay=0.05
        )

    def loss(
        self, part: str, batch: Int[Tensor, " batch"], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        device, batch = batch.device, batch.cpu()
        chosen = self.mirrors[batch] & (torch.rand(len(batch), generator=generator) < 0.5)
        pixels = degrade(mirrored(self.data.images(batch), chosen), generator).to(device)
        labels = mirrored(self.labels[batch].long(), chosen).to(device)
        ids, mask = self.input_ids[batch].to(device), self.attention_mask[batch].to(device)
        said: DenseClipOutput = self.parts[part](pixels, ids, mask)
        contrast = contrastive_loss(said.image, said.text, said.scale, self.groups[batch].to(device))
        dense = F.cross_entropy(said.patches.flatten(0, 1), labels.flatten())
        scene = F.cross_entropy(said.counts.flatten(0, 1), self.counts[batch].flatten().to(device))
        pair, relation = self.relations[batch].to(device).unbind(dim=1)
        is_related = pair >= 0
        chosen = said.relations[is_related, pair[is_related]]
        related = F.cross_entropy(chosen, relation[is_related], reduction="sum") / is_related.sum().clamp(min=1)
        scene = scene + related
        metrics = {"contrast": contrast.item(), "dense": dense.item(), "scene": scene.item()}
        return contrast + self.dense_weight * (dense + scene), metrics

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None


def mirrored(
    maps: Shaped[Tensor, "batch *dims width"], chosen: Bool[Tensor, " batch"]
) -> Shaped[Tensor, "batch *dims width"]:
    """Maps of which the chosen ones are mirrored, left to right."""
    return torch.where(chosen.view(-1, *[1] * (maps.ndim - 1)), maps.flip(-1), maps)


def can_be_mirrored(record: dict[str, Any]) -> bool:
    """Whether a GenEval record claims the same of its picture's mirror image: it names neither left nor right."""
    relations = [clause["position"][0] for clause in record["include"] if clause.get("position")]
    return not any("left" in relation or "right" in relation for relation in relations)


def degrade(
    pixels: Float[Tensor, "batch 3 size size"], generator: torch.Generator
) -> Float[Tensor, "batch 3 size size"]:
    """Pictures in [-1, 1] with random gain, offset and noise, half of them softened, as generated ones are."""
    count = len(pixels)

    def draw(low: float, high: float) -> Float[Tensor, "batch 1 1 1"]:
        return torch.empty(count, 1, 1, 1).uniform_(low, high, generator=generator)

    soft = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear", align_corners=False)
    pixels = torch.lerp(pixels, soft, draw(-1, 1).clamp(min=0))
    noise = torch.randn(pixels.shape, generator=generator)
    return (pixels * draw(0.85, 1.15) + draw(-0.1, 0.1) + noise * draw(0, 0.06)).clamp(-1, 1)


def claim(record: dict[str, Any]) -> str:
    """What a GenEval record claims, whatever the words of its prompt."""
    return json.dumps({name: value for name, value in record.items() if name != "prompt"}, sort_keys=True)


def shape_counts(record: dict[str, Any]) -> list[int]:
    """How many objects of each shape a PocketWorld record shows: what it claims is all there is."""
    counts = [0] * len(SHAPES)
    for clause in record["include"]:
        counts[SHAPES.index(clause["class"])] += clause["count"]
    return counts


def claimed_relation(record: dict[str, Any]) -> tuple[int, int]:
    """(ordered pair of shapes, relation) as numbers for a position record, (-1, -1) for any other."""
    if record["tag"] != "position":
        return -1, -1
    target, subject = (SHAPES.index(clause["class"]) for clause in record["include"])
    return subject * len(SHAPES) + target, RELATIONS.index(record["include"][1]["position"][0])


def numbered(keys: Iterable[Hashable]) -> Int[Tensor, " count"]:
    """The number of each key, in the order in which they first come."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])
