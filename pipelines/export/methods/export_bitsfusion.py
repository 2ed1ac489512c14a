"""How BitsFusion is exported: packed weights decoded, and Stable Diffusion's way with prompts in words."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ...pipeline_bitsfusion import BitsFusionPipeline
from ..contract import ComponentContract, PipelineContract, TensorSpec
from ..samplers.ddim import Ddim
from ..stand_ins import Runner
from .latents import ExportConditions, LatentExport
from .prompts import prompt
from .text_encoders import TextEncoder, TextEncoderStandIn, encoder_contract


class PromptConditions(ExportConditions):
    """Prompts by one CLIP, of which the UNet sees every token, padding too."""

    def check(self, pipeline: BitsFusionPipeline) -> None:
        """Refuses a pipeline without its text encoder."""
        if pipeline.text_encoder is None:
            raise ValueError("this pipeline has no text encoder: an export needs it.")

    def inputs(self, pipeline: BitsFusionPipeline) -> tuple[TensorSpec, ...]:
        shape = ("batch", _tokens(pipeline), pipeline.unet.config.cross_attention_dim)
        return (TensorSpec("encoder_hidden_states", shape, "float32", None, None, "features of the prompt"),)

    def calls(self, pipeline: BitsFusionPipeline) -> tuple[str, str]:
        return "[negative_features, features]", "features"

    def constants(self, pipeline: BitsFusionPipeline) -> dict[str, Any]:
        return {"tokens": {"text_encoder": _tokens(pipeline)}, "text_width": pipeline.unet.config.cross_attention_dim}

    def configs(self, pipeline: BitsFusionPipeline) -> dict[str, dict[str, Any]]:
        wanted = ("sample_size", "in_channels", "block_out_channels", "cross_attention_dim")
        sizes = ("hidden_size", "max_position_embeddings")
        return {
            "pipeline": {},
            "unet": {key: pipeline.unet.config[key] for key in wanted},
            "text_encoder": {key: getattr(pipeline.text_encoder.config, key) for key in sizes},
        }

    def example(self, pipeline: BitsFusionPipeline, sample: int) -> str:
        return prompt(sample)

    def encoders(self, pipeline: BitsFusionPipeline) -> dict[ComponentContract, nn.Module]:
        encoder = pipeline.text_encoder
        component = encoder_contract("text_encoder", "tokenizer", encoder.config, _tokens(pipeline))
        return {component: TextEncoder(encoder, None)}

    def encoding(self, pipeline: BitsFusionPipeline) -> str:
        return (
            f"ids = tokenizer(prompt), cut or padded on the right to {_tokens(pipeline)} tokens\n"
            "features = text_encoder(ids)\n"
            "the same for the negative prompt (empty text if there is none): negative_features\n"
        )

    def parts(self, pipeline: BitsFusionPipeline) -> dict[str, tuple[str, str]]:
        return {"tokenizer": ("transformers", "AutoTokenizer")}

    def components(
        self, contract: PipelineContract, runners: Mapping[str, Runner], parts: Mapping[str, Any]
    ) -> dict[str, Any]:
        encoder = TextEncoderStandIn(runners["text_encoder"], contract.configs["text_encoder"], None)
        return {"text_encoder": encoder, "tokenizer": parts["tokenizer"]}


EXPORTS = {BitsFusionPipeline: LatentExport("bitsfusion", BitsFusionPipeline, PromptConditions(), Ddim())}


def _tokens(pipeline: BitsFusionPipeline) -> int:
    return pipeline._token_limit
