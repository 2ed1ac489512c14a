"""How SnapGen is exported: its text encoders as networks of plain tensors, and the words for how they are fused."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ...pipeline_snapgen import ENCODERS, SnapGenPipeline, _dynamic_shift
from ..contract import ComponentContract, PipelineContract, TensorSpec
from ..stand_ins import Runner
from .latents import ExportConditions, LatentExport
from .prompts import prompt
from .text_encoders import MaskedTextEncoder, TextEncoder, TextEncoderStandIn, encoder_contract


class TextConditions(ExportConditions):
    """Prompts, by whatever text encoders a pipeline has."""

    latents_meaning = "the noisy latents of this step, about unit variance"

    def check(self, pipeline: SnapGenPipeline) -> None:
        """Refuses a pipeline without text encoders."""
        if not _present(pipeline):
            raise ValueError("this pipeline has no text encoder: an export needs at least one.")

    def inputs(self, pipeline: SnapGenPipeline) -> tuple[TensorSpec, ...]:
        text, width = ("batch", _fused_tokens(pipeline)), pipeline.unet.config.cross_attention_dim
        return (
            TensorSpec("encoder_hidden_states", (*text, width), "float32", None, None, "features of the prompt"),
            TensorSpec("encoder_attention_mask", text, "float32", 0, 1, "1 for a token of the prompt, 0 for padding"),
        )

    def calls(self, pipeline: SnapGenPipeline) -> tuple[str, str]:
        return "[negative_features, features], [negative_mask, mask]", "features, mask"

    def constants(self, pipeline: SnapGenPipeline) -> dict[str, Any]:
        return {
            "tokens": _tokens(pipeline),
            "text_tokens": _fused_tokens(pipeline),
            "text_width": pipeline.unet.config.cross_attention_dim,
            "clip_l_width": pipeline.config.clip_l_width,
        }

    def configs(self, pipeline: SnapGenPipeline) -> dict[str, dict[str, Any]]:
        parameters = ("clip_tokens", "gemma_tokens", "clip_hidden_layer", "clip_l_width")
        wanted = ("sample_size", "in_channels", "block_out_channels", "cross_attention_dim")
        encoders = {name: getattr(pipeline, name).config for name in _present(pipeline)}
        sizes = ("hidden_size", "max_position_embeddings")
        return {
            "pipeline": {key: pipeline.config[key] for key in parameters},
            "unet": {key: pipeline.unet.config[key] for key in wanted},
            **{name: {key: getattr(config, key) for key in sizes} for name, config in encoders.items()},
        }

    def example(self, pipeline: SnapGenPipeline, sample: int) -> str:
        return prompt(sample)

    def encoders(self, pipeline: SnapGenPipeline) -> dict[ComponentContract, nn.Module]:
        return {_encoder_contract(pipeline, name): _encoder(pipeline, name) for name in _present(pipeline)}

    def encoding(self, pipeline: SnapGenPipeline) -> str:
        present, width = _present(pipeline), pipeline.unet.config.cross_attention_dim
        lines = []
        for name in present:
            tokens, tokenizer = _tokens(pipeline)[name], ENCODERS[name]
            call = "ids, mask" if name == "text_encoder_3" else "ids"
            lines += [
                f"{name}: ids, mask = {tokenizer}(prompt), cut or padded on the right to {tokens} tokens",
                f"{name}: hidden = {name}({call})",
            ]
        if len(present) == 1 and getattr(pipeline, present[0]).config.hidden_size == width:
            lines.append("features = hidden; mask = 1 for tokens of the prompt, 0 for padding, as float32")
        else:
            lines += _fusion(pipeline, present, width)
        lines.append("the same for the negative prompt (empty text if there is none): negative_features, negative_mask")
        return "".join(f"{line}\n" for line in lines)

    def parts(self, pipeline: SnapGenPipeline) -> dict[str, tuple[str, str]]:
        return {ENCODERS[name]: ("transformers", "AutoTokenizer") for name in _present(pipeline)}

    def components(
        self, contract: PipelineContract, runners: Mapping[str, Runner], parts: Mapping[str, Any]
    ) -> dict[str, Any]:
        configs, found = contract.configs, {name: parts.get(name) for name in ENCODERS.values()}
        for name in ENCODERS.keys() & runners.keys():
            found[name] = TextEncoderStandIn(runners[name], configs[name], configs["pipeline"]["clip_hidden_layer"])
        return found

    def dynamic_shift(self, pipeline: SnapGenPipeline) -> float | None:
        config, side = pipeline.scheduler.config, pipeline.unet.config.sample_size
        return _dynamic_shift(config, (side // 2) ** 2) if config.get("use_dynamic_shifting") else None


EXPORTS = {SnapGenPipeline: LatentExport("snapgen", SnapGenPipeline, TextConditions())}


def _present(pipeline: SnapGenPipeline) -> list[str]:
    return [name for name in ENCODERS if getattr(pipeline, name) is not None]


def _tokens(pipeline: SnapGenPipeline) -> dict[str, int]:
    """Prompt length of each encoder; CLIP-L and CLIP-G stand side by side and share theirs."""
    limits = {name: pipeline._token_limit(name) for name in _present(pipeline)}
    shared = min((limit for name, limit in limits.items() if name != "text_encoder_3"), default=0)
    return {name: limit if name == "text_encoder_3" else shared for name, limit in limits.items()}


def _fused_tokens(pipeline: SnapGenPipeline) -> int:
    lengths = _tokens(pipeline)
    gemma = lengths.pop("text_encoder_3", 0)
    return max(lengths.values(), default=0) + gemma


def _encoder_contract(pipeline: SnapGenPipeline, name: str) -> ComponentContract:
    config, tokens = getattr(pipeline, name).config, _tokens(pipeline)[name]
    return encoder_contract(name, ENCODERS[name], config, tokens, masked=name == "text_encoder_3")


def _encoder(pipeline: SnapGenPipeline, name: str) -> nn.Module:
    if name == "text_encoder_3":
        return MaskedTextEncoder(pipeline.text_encoder_3)
    return TextEncoder(getattr(pipeline, name), pipeline.config.clip_hidden_layer)


def _fusion(pipeline: SnapGenPipeline, present: list[str], width: int) -> list[str]:
    """The words for `fuse_text_features`."""
    clip_l, lines, joined = pipeline.config.clip_l_width, [], []
    clip = [name for name in present if name != "text_encoder_3"]
    if clip:
        places = {"text_encoder": "at channel 0", "text_encoder_2": f"at channel {clip_l}"}
        where = " and ".join(f"hidden of {name} {places[name]}" for name in clip)
        lines.append(f"clip = zeros [n, tokens, {width}] with {where}; clip_mask = 1 where any of their masks is 1")
        joined.append("clip")
    if "text_encoder_3" in present:
        lines.append(f"gemma = hidden of text_encoder_3, padded with zeros to {width} channels; gemma_mask = its mask")
        joined.append("gemma")
    lines.append(f"features = {' then '.join(joined)} along the tokens; mask = their masks likewise, as float32")
    return lines
