"""How SnapGen is exported: text encoders, UNet and decoder as networks of plain tensors, and the loop between them."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...pipeline_snapgen import ENCODERS, SnapGenPipeline, _dynamic_shift
from ..contract import ComponentContract, PipelineContract, TensorSpec
from ..euler_levels import FORMULA, OTHER_LEVELS, check_euler
from ..stand_ins import Decoder, DecoderStandIn, Runner, StandIn, decoder_config, explicit_twin

GUIDANCE = SnapGenPipeline.defaults.guidance_scale
STEPS = SnapGenPipeline.defaults.num_inference_steps
REHEARSAL = (
    "a photo of a red cube",
    "a blue sphere above a green cone",
    "two yellow cylinders",
    "a purple torus",
    "an orange cone left of a black cube",
    "three white spheres",
)

LOOP = """\
{encoding}
latents = normal noise [n, {latents}], float32, one seed a picture
sigmas = scheduler's noise levels for the number of steps, from 1 down to 0 (see "scheduler" below)
for i in 0 .. steps - 1:
    t = 1000 * sigmas[i]
    if guidance_scale > 1:
        both = unet([latents, latents], [t, t, ...], [negative_features, features], [negative_mask, mask])
        velocity = both[first half] + guidance_scale * (both[second half] - both[first half])
    else:
        velocity = unet(latents, [t, ...], features, mask)
    latents = latents + (sigmas[i + 1] - sigmas[i]) * velocity
picture = vae_decoder(latents)
pixels = round(255 * clamp(picture / 2 + 0.5, 0, 1))
"""


class TextEncoder(nn.Module):
    """CLIP: token ids to the hidden states that condition the UNet; layers behind them are left out."""

    def __init__(self, encoder: nn.Module, layer: int) -> None:
        super().__init__()
        self.encoder, self.layer = encoder, layer

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.encoder(input_ids, output_hidden_states=True).hidden_states[self.layer]


class MaskedTextEncoder(nn.Module):
    """Gemma: token ids and their mask to the last hidden states."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder(input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state


class Denoiser(nn.Module):
    """The UNet, with its mask as numbers, which every back end takes."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, latents: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor
    ) -> Tensor:
        return self.unet(latents, timestep, encoder_hidden_states, encoder_attention_mask, return_dict=False)[0]


def contract(pipeline: SnapGenPipeline) -> PipelineContract:
    """The contract of a SnapGen pipeline with whatever text encoders it has, at its default size.

    Raises:
        ValueError: when it has no text encoder, or a scheduler whose step is not Euler's without noise.
    """
    if not _present(pipeline):
        raise ValueError("this pipeline has no text encoder: an export needs at least one.")
    check_euler(pipeline.scheduler)
    encoders = [_encoder_contract(pipeline, name) for name in _present(pipeline)]
    return PipelineContract(
        slug="snapgen",
        components=(*encoders, _unet_contract(pipeline), _decoder_contract(pipeline)),
        scheduler=_scheduler_record(pipeline),
        loop=LOOP.format(encoding=_encoding(pipeline), latents=", ".join(map(str, _latent_shape(pipeline)))),
        constants=_constants(pipeline),
        parts=_parts(pipeline),
        configs=_configs(pipeline),
    )


def modules(pipeline: SnapGenPipeline) -> dict[str, nn.Module]:
    """The networks that the contract names, sharing the pipeline's weights."""
    layer = pipeline.config.clip_hidden_layer
    found: dict[str, nn.Module] = {
        name: MaskedTextEncoder(getattr(pipeline, name))
        if name == "text_encoder_3"
        else TextEncoder(getattr(pipeline, name), layer)
        for name in _present(pipeline)
    }
    found |= {"unet": Denoiser(explicit_twin(pipeline.unet)), "vae_decoder": Decoder(pipeline.vae)}
    return {name: module.eval() for name, module in found.items()}


def assemble(contract: PipelineContract, runners: Mapping[str, Runner], parts: Mapping[str, Any]) -> SnapGenPipeline:
    """A `SnapGenPipeline` whose networks are `runners`: functions of tensors by position, as the contract has them."""
    configs = contract.configs
    components: dict[str, Any] = {name: parts.get(name) for name in ("scheduler", *ENCODERS.values())}
    for name in ENCODERS.keys() & runners.keys():
        components[name] = _RunText(runners[name], configs[name], configs["pipeline"]["clip_hidden_layer"])
    components["unet"] = _RunUNet(runners["unet"], configs["unet"])
    components["vae"] = DecoderStandIn(runners["vae_decoder"], configs["vae"])
    return SnapGenPipeline(**components, **configs["pipeline"])


def rehearse(pipeline: SnapGenPipeline) -> np.ndarray:
    """Pictures [6, height, width, 3] in [0, 1] of six prompts in four steps with guidance: what calibration sees."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(REHEARSAL))]
    return pipeline(list(REHEARSAL), num_inference_steps=4, generator=generators, output_type="np").images


class _RunText(StandIn):
    def __init__(self, run: Runner, config: dict[str, Any], layer: int) -> None:
        super().__init__(run, config)
        self.layer = layer

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> SimpleNamespace:
        mask = () if attention_mask is None else (attention_mask.int(),)
        hidden = self.run(input_ids.int(), *mask)[0]
        return SimpleNamespace(last_hidden_state=hidden, hidden_states={self.layer: hidden})


class _RunUNet(StandIn):
    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        return (self.run(sample, timestep.float(), encoder_hidden_states, encoder_attention_mask.float())[0],)


def _present(pipeline: SnapGenPipeline) -> list[str]:
    return [name for name in ENCODERS if getattr(pipeline, name) is not None]


def _latent_shape(pipeline: SnapGenPipeline) -> tuple[int, int, int]:
    side = pipeline.unet.config.sample_size
    return pipeline.unet.config.in_channels, side, side


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
    shape = ("batch", tokens)
    words = f"tokens of {ENCODERS[name]}/, cut or padded on the right to {tokens}"
    inputs = [TensorSpec("input_ids", shape, "int32", 0, config.vocab_size - 1, words)]
    if name == "text_encoder_3":
        inputs.append(TensorSpec("attention_mask", shape, "int32", 0, 1, "1 for a token of the prompt, 0 for padding"))
    meaning = "features of the tokens"
    hidden = TensorSpec("hidden_states", (*shape, config.hidden_size), "float32", None, None, meaning)
    return ComponentContract(name, tuple(inputs), (hidden,), "turns a prompt's tokens into features, once a picture")


def _unet_contract(pipeline: SnapGenPipeline) -> ComponentContract:
    shape, tokens = ("batch", *_latent_shape(pipeline)), _fused_tokens(pipeline)
    width = pipeline.unet.config.cross_attention_dim
    text = ("batch", tokens)
    inputs = (
        TensorSpec("latents", shape, "float32", None, None, "the noisy latents of this step, about unit variance"),
        TensorSpec("timestep", ("batch",), "float32", 0, 1000, "noise level times 1000: 1000 is noise, 0 is clean"),
        TensorSpec("encoder_hidden_states", (*text, width), "float32", None, None, "features of the prompt"),
        TensorSpec("encoder_attention_mask", text, "float32", 0, 1, "1 for a token of the prompt, 0 for padding"),
    )
    velocity = TensorSpec("velocity", shape, "float32", None, None, "noise minus clean latents, as predicted")
    return ComponentContract("unet", inputs, (velocity,), "predicts which way the noise lies, once a step")


def _decoder_contract(pipeline: SnapGenPipeline) -> ComponentContract:
    channels, side = pipeline.vae.config.out_channels, pipeline.default_size
    meaning = "the latents as the last step left them; undoing their scale is inside"
    latents = TensorSpec("latents", ("batch", *_latent_shape(pipeline)), "float32", None, None, meaning)
    meaning = "red, green and blue about [-1, 1], not clamped; pixel = round(255 * clamp(x / 2 + 0.5, 0, 1))"
    picture = TensorSpec("picture", ("batch", channels, side, side), "float32", -1, 1, meaning)
    return ComponentContract("vae_decoder", (latents,), (picture,), "turns latents into a picture, once a picture")


def _scheduler_record(pipeline: SnapGenPipeline) -> dict[str, Any]:
    scheduler = pipeline._scheduled(STEPS, None, _latent_shape(pipeline)[1:])
    kept = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
    return {
        "class": type(scheduler).__name__,
        "config": kept,
        **_levels(pipeline),
        "example": {
            "steps": STEPS,
            "sigmas": [round(float(sigma), 6) for sigma in scheduler.sigmas],
            "timesteps": [round(float(level), 4) for level in scheduler.timesteps],
        },
    }


def _levels(pipeline: SnapGenPipeline) -> dict[str, Any]:
    """The rule behind the noise levels at the default size; nulls where the config asks for another one."""
    config = pipeline.scheduler.config
    if any(config.get(name) for name in OTHER_LEVELS):
        return {"shift": None, "lowest": None, "formula": None}
    lowest = 1 / config.num_train_timesteps
    if config.get("use_dynamic_shifting"):
        side = _latent_shape(pipeline)[1]
        mu = _dynamic_shift(config, (side // 2) ** 2)
        shift = math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else mu
    else:
        shift = config.shift
        lowest = shift * lowest / (1 + (shift - 1) * lowest)
    return {"shift": shift, "lowest": lowest, "formula": FORMULA}


def _constants(pipeline: SnapGenPipeline) -> dict[str, Any]:
    return {
        "height": pipeline.default_size,
        "width": pipeline.default_size,
        "latents": list(_latent_shape(pipeline)),
        "pixels_a_latent": pipeline.vae_scale_factor,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "num_train_timesteps": pipeline.scheduler.config.num_train_timesteps,
        "tokens": _tokens(pipeline),
        "text_tokens": _fused_tokens(pipeline),
        "text_width": pipeline.unet.config.cross_attention_dim,
        "clip_l_width": pipeline.config.clip_l_width,
    }


def _parts(pipeline: SnapGenPipeline) -> dict[str, tuple[str, str]]:
    found = {"scheduler": ("diffusers", type(pipeline.scheduler).__name__)}
    return found | {ENCODERS[name]: ("transformers", "AutoTokenizer") for name in _present(pipeline)}


def _configs(pipeline: SnapGenPipeline) -> dict[str, dict[str, Any]]:
    unet, vae = pipeline.unet.config, pipeline.vae.config
    wanted = ("sample_size", "in_channels", "block_out_channels", "cross_attention_dim")
    parameters = ("clip_tokens", "gemma_tokens", "clip_hidden_layer", "clip_l_width")
    encoders = {name: getattr(pipeline, name).config for name in _present(pipeline)}
    sizes = ("hidden_size", "max_position_embeddings")
    return {
        "pipeline": {key: pipeline.config[key] for key in parameters},
        "unet": {key: unet[key] for key in wanted},
        "vae": decoder_config(vae.latent_channels, pipeline.vae_scale_factor),
        **{name: {key: getattr(config, key) for key in sizes} for name, config in encoders.items()},
    }


def _encoding(pipeline: SnapGenPipeline) -> str:
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
    return "\n".join(lines)


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
