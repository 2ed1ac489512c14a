"""Text to image with SnapGen (arXiv 2412.09619): up to three text encoders, a small UNet and a tiny decoder."""

import copy
import inspect
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float
from torch import Tensor
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Model,
    PreTrainedTokenizerBase,
)

from ..hub_models.autoencoder_snapgen import AutoencoderSnapGen
from ..hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from .inputs import check_choice, check_number
from .outputs import ImageOutput
from .repository import RepositoryMixin
from .sampling.defaults import SamplingDefaults
from .sampling.latent_sampling import Callback, Features, check_embeds, watched_tensors
from .sampling.lora import UNetLoraMixin
from .sampling.noise import Generators
from .sampling.prompted import PromptedMixin, listed, negatives

ENCODERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2", "text_encoder_3": "tokenizer_3"}


def fuse_text_features(
    clip_l: Features | None,
    clip_g: Features | None,
    gemma: Features | None,
    width: int,
    clip_l_width: int = 0,
) -> Features:
    """Stable Diffusion 3's fusion of text features (arXiv 2403.03206, figure 2).

    CLIP-L and CLIP-G stand side by side in the channels, padded with zeros to `width`; Gemma's tokens follow along
    the sequence. Where one CLIP encoder is missing, zeros stand in its channels; where both are, or Gemma is, their
    tokens are left out, which for cross-attention is the same as masking them. So an encoder that is dropped in
    training and one that is missing at inference are one thing. A single encoder of width `width` passes unchanged.

    Args:
        clip_l: features of CLIP-L, or None.
        clip_g: features of CLIP-G with as many tokens, or None.
        gemma: features of Gemma, or None.
        width: channels that come out, the UNet's cross-attention width.
        clip_l_width: channels kept free for CLIP-L where only CLIP-G is given.

    Returns:
        Fused features [batch, tokens, width] and their mask [batch, tokens].

    Raises:
        ValueError: when all three are None, or the channels do not fit into `width`.
    """
    parts = []
    if clip_l is not None or clip_g is not None:
        parts.append(_side_by_side(clip_l, clip_g, clip_l_width))
    if gemma is not None:
        parts.append(gemma)
    if not parts:
        raise ValueError("no text features to fuse: at least one of clip_l, clip_g and gemma is needed.")
    widest = max(hidden.shape[-1] for hidden, _ in parts)
    if widest > width:
        raise ValueError(f"text features are {widest} channels wide, but the UNet takes {width}.")
    hidden = torch.cat([F.pad(hidden, (0, width - hidden.shape[-1])) for hidden, _ in parts], dim=1)
    return hidden, torch.cat([mask.bool() for _, mask in parts], dim=1)


def _side_by_side(clip_l: Features | None, clip_g: Features | None, clip_l_width: int) -> Features:
    if clip_g is None:
        return clip_l
    hidden, mask = clip_g
    if clip_l is None:
        return F.pad(hidden, (clip_l_width, 0)), mask
    return torch.cat([clip_l[0], hidden], dim=-1), clip_l[1].bool() | mask.bool()


class SnapGenPipeline(RepositoryMixin, PromptedMixin, UNetLoraMixin, DiffusionPipeline):
    """Text to image with SnapGen.

    Args:
        vae: decoder of latents; SnapGen's own or Stable Diffusion 3's.
        unet: predicts the velocity (noise - picture).
        scheduler: flow-matching scheduler; dynamic shifting is resolved with SD3's formula.
        text_encoder: CLIP-L (in the nano model the text tower of clip-nano), or None.
        tokenizer: its tokenizer.
        text_encoder_2: CLIP-G, or None.
        tokenizer_2: its tokenizer.
        text_encoder_3: Gemma-2, or None.
        tokenizer_3: its tokenizer.
        clip_tokens: prompt length for CLIP in tokens, at most what tokenizer and encoder take; 77 is all of it.
        gemma_tokens: prompt length for Gemma in tokens, likewise; 300 holds long prompts, such as DPG-Bench's.
        clip_hidden_layer: which of CLIP's hidden states conditions the UNet; -2, the last but one, as in SD3.
        clip_l_width: channels that belong to CLIP-L; None takes the width of `text_encoder` (0 without one). Saved,
            so that a pipeline loaded with `text_encoder=None` keeps CLIP-G where it was in training.

    Raises:
        ValueError: for an encoder without tokenizer, or components whose widths do not fit together.
    """

    # The paper samples in 28 steps and does not name its guidance: that of the teacher in SnapGen++
    # (arXiv 2601.08303) is taken.
    defaults: ClassVar = SamplingDefaults(num_inference_steps=28, guidance_scale=4.0)
    model_cpu_offload_seq = "text_encoder->text_encoder_2->text_encoder_3->unet->vae"
    _text_encoders: ClassVar[dict[str, str]] = ENCODERS
    _optional_components: ClassVar[list[str]] = [name for pair in ENCODERS.items() for name in pair]
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds", "prompt_attention_mask"]
    _unet_inputs: ClassVar[dict[str, str]] = {
        "prompt_embeds": "encoder_hidden_states", "prompt_attention_mask": "encoder_attention_mask",
    }  # fmt: skip

    def __init__(
        self,
        vae: AutoencoderSnapGen | AutoencoderKL,
        unet: SnapGenUNet2DConditionModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        text_encoder: CLIPTextModel | CLIPTextModelWithProjection | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        text_encoder_2: CLIPTextModel | CLIPTextModelWithProjection | None = None,
        tokenizer_2: PreTrainedTokenizerBase | None = None,
        text_encoder_3: Gemma2Model | None = None,
        tokenizer_3: PreTrainedTokenizerBase | None = None,
        clip_tokens: int = 77,
        gemma_tokens: int = 300,
        clip_hidden_layer: int = -2,
        clip_l_width: int | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
            text_encoder_3=text_encoder_3,
            tokenizer_3=tokenizer_3,
        )
        if clip_l_width is None:
            clip_l_width = 0 if text_encoder is None else text_encoder.config.hidden_size
        self.register_to_config(
            clip_tokens=clip_tokens,
            gemma_tokens=gemma_tokens,
            clip_hidden_layer=clip_hidden_layer,
            clip_l_width=clip_l_width,
        )
        self._check_components()
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @property
    def size_multiple(self) -> int:
        """Height and width of pictures must be multiples of this many pixels."""
        return self.vae_scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def encode_prompt(
        self,
        prompt: str | list[str],
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        dropped: Sequence[Collection[str]] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Text features of prompts as the UNet takes them (see `fuse_text_features`).

        Args:
            prompt: a prompt or a list of them.
            negative_prompt: one for all prompts, or one each; None is the empty prompt.
            num_images_per_prompt: copies of each prompt's features, side by side.
            do_classifier_free_guidance: also encode the negative prompts.
            dropped: for training, the encoders that each prompt does without, as if they were missing; a prompt that
                loses them all becomes the empty prompt, which guidance steers away from. None drops nothing.

        Returns:
            prompt_embeds [batch, tokens, width] in the UNet's number format, prompt_attention_mask [batch, tokens]
            (boolean, False on padding), and both of the negative prompts (None without guidance), with batch =
            prompts x `num_images_per_prompt`.

        Raises:
            ValueError: when the pipeline has no text encoder, or `dropped` does not fit the prompts.
        """
        prompts = listed(prompt)
        embeds, mask = self._encode(prompts, num_images_per_prompt, dropped)
        if not do_classifier_free_guidance:
            return embeds, mask, None, None
        return embeds, mask, *self._encode(negatives(negative_prompt, len(prompts)), num_images_per_prompt)

    def without(self, encoders: str | Collection[str]) -> Self:
        """The same pipeline with text encoders left out ("text_encoder_3", ...); components are shared, not copied.

        Raises:
            ValueError: for a name that is no text encoder.
        """
        encoders = [encoders] if isinstance(encoders, str) else encoders
        for name in encoders:
            check_choice("encoders", name, tuple(ENCODERS))
        gone = {part: None for name in encoders for part in (name, ENCODERS[name])}
        return type(self)(**{**self.components, **gone}, **self.parameters)

    def _encode(self, prompts: list[str], copies: int, dropped: Sequence[Collection[str]] | None = None) -> Features:
        present = [name for name in ENCODERS if getattr(self, name) is not None]
        if not present:
            raise ValueError("this pipeline has no text encoder: pass prompt_embeds instead of prompt.")
        if dropped is not None:
            dropped = _check_dropped(dropped, len(prompts))
            silenced = [gone.issuperset(present) for gone in dropped]
            prompts = ["" if silent else prompt for prompt, silent in zip(prompts, silenced, strict=True)]
            dropped = [set() if silent else gone for gone, silent in zip(dropped, silenced, strict=True)]
        distinct = list(dict.fromkeys(prompts))
        rows = [distinct.index(prompt) for prompt in prompts]
        features = dict.fromkeys(ENCODERS)
        for name, (hidden, mask) in self._text_features(distinct, present).items():
            kept = torch.tensor([name not in gone for gone in dropped or [()] * len(rows)], device=hidden.device)
            features[name] = hidden[rows] * kept[:, None, None], mask[rows] & kept[:, None]
        width = self.unet.config.cross_attention_dim
        hidden, mask = fuse_text_features(*features.values(), width, self.config.clip_l_width)
        return hidden.to(self.unet.dtype).repeat_interleave(copies, dim=0), mask.repeat_interleave(copies, dim=0)

    def _text_features(self, prompts: list[str], present: list[str]) -> dict[str, Features]:
        """Features of each encoder by its name, in float32; CLIP-L and CLIP-G have as many tokens."""
        limits = {name: self._token_limit(name) for name in present}
        clip = min((limit for name, limit in limits.items() if name != "text_encoder_3"), default=0)
        features = {}
        for name in present:
            ids, mask = self._tokens(name, prompts, limits[name] if name == "text_encoder_3" else clip)
            if name == "text_encoder_3":
                hidden = self.text_encoder_3(ids, attention_mask=mask).last_hidden_state
            else:
                states = getattr(self, name)(ids, output_hidden_states=True).hidden_states
                hidden = states[self.config.clip_hidden_layer]
            features[name] = hidden.float(), mask.bool()
        return features

    def _token_limit(self, name: str) -> int:
        wanted = self.config.gemma_tokens if name == "text_encoder_3" else self.config.clip_tokens
        encoder, tokenizer = getattr(self, name), getattr(self, ENCODERS[name])
        return min(wanted, tokenizer.model_max_length, encoder.config.max_position_embeddings)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = defaults.num_inference_steps,
        guidance_scale: float = defaults.guidance_scale,
        num_images_per_prompt: int = 1,
        generator: Generators | None = None,
        latents: Float[Tensor, "batch channels h w"] | None = None,
        prompt_embeds: Float[Tensor, "prompts tokens width"] | None = None,
        prompt_attention_mask: Tensor | None = None,
        negative_prompt_embeds: Float[Tensor, "prompts tokens width"] | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        sigmas: list[float] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
    ) -> ImageOutput | tuple[Any]:
        """Makes pictures of prompts.

        Args:
            prompt: what to show; a list makes a batch.
            negative_prompt: what to steer away from, one for all prompts or one each; may be blank.
            height: pixels, a multiple of `size_multiple`; None is `default_size` (or what `latents` has).
            width: likewise.
            num_inference_steps: UNet steps, at least 1 (28, 8 or 4 in the paper).
            guidance_scale: strength of classifier-free guidance, 0 or more; up to 1 is without, in half the time.
            num_images_per_prompt: pictures of each prompt.
            generator: source of noise. A list, one for each picture, makes a picture depend on its own seed only; a
                single one is drawn from picture after picture. Use CPU generators for one result on every device.
            latents: starting noise, in place of drawn noise.
            prompt_embeds: text features in place of `prompt`, as `encode_prompt` makes them for one image a prompt.
            prompt_attention_mask: mask of their tokens, nonzero for real ones; None takes all.
            negative_prompt_embeds: likewise, in place of `negative_prompt`.
            negative_prompt_attention_mask: likewise.
            sigmas: noise levels of the steps, falling within (0, 1], in place of `num_inference_steps`.
            output_type: "pil", "np", "pt" or "latent"; ranges and shapes in `ImageOutput`.
            return_dict: False returns a tuple of the images alone.
            callback_on_step_end: called as `(pipeline, step, timestep, tensors)` after each step; returns a dict
                whose "latents", "prompt_embeds" and "prompt_attention_mask" replace the running ones.
            callback_on_step_end_tensor_inputs: names of the tensors it gets; None gives latents. With guidance,
                features hold the negative prompts first, then the prompts.

        Returns:
            `ImageOutput`, or `(images,)`.

        Raises:
            ValueError: for every input that cannot be used, before anything is computed.
        """
        watched = watched_tensors(callback_on_step_end, callback_on_step_end_tensor_inputs)
        height, width = self._side(height, latents, 2), self._side(width, latents, 3)
        self.check_inputs(
            prompt, negative_prompt, height, width, num_inference_steps, guidance_scale, num_images_per_prompt,
            generator, latents, prompt_embeds, prompt_attention_mask, negative_prompt_embeds,
            negative_prompt_attention_mask, sigmas, output_type, watched,
        )  # fmt: skip
        with self._calling(guidance_scale):
            embeds, mask = self._conditioning(
                prompt, negative_prompt, num_images_per_prompt,
                (prompt_embeds, prompt_attention_mask), (negative_prompt_embeds, negative_prompt_attention_mask),
            )  # fmt: skip
            state = {
                "latents": self._noise(len(embeds), height, width, generator) if latents is None else latents,
                "prompt_embeds": embeds,
                "prompt_attention_mask": mask,
            }
            scheduler = self._scheduled(num_inference_steps, sigmas, state["latents"].shape[-2:])
            drawn = self._sample(scheduler, state, generator, callback_on_step_end, watched)
            images = self._decode(drawn, output_type)
        self.maybe_free_model_hooks()
        return ImageOutput(images=images) if return_dict else (images,)

    def _scheduled(
        self, steps: int, sigmas: list[float] | None, grid: tuple[int, int]
    ) -> FlowMatchEulerDiscreteScheduler:
        """A copy of the scheduler with its timesteps set: calls leave the registered one as it was."""
        scheduler = copy.deepcopy(self.scheduler)
        options = {"num_inference_steps": steps} if sigmas is None else {"sigmas": sigmas}
        if scheduler.config.get("use_dynamic_shifting"):
            options["mu"] = _dynamic_shift(scheduler.config, (grid[0] // 2) * (grid[1] // 2))
        scheduler.set_timesteps(device=self._execution_device, **options)
        return scheduler

    def check_inputs(
        self,
        prompt: str | list[str] | None,
        negative_prompt: str | list[str] | None,
        height: int,
        width: int,
        num_inference_steps: int,
        guidance_scale: float,
        num_images_per_prompt: int,
        generator: Generators | None,
        latents: Tensor | None,
        prompt_embeds: Tensor | None,
        prompt_attention_mask: Tensor | None,
        negative_prompt_embeds: Tensor | None,
        negative_prompt_attention_mask: Tensor | None,
        sigmas: list[float] | None,
        output_type: str,
        callback_on_step_end_tensor_inputs: list[str],
    ) -> None:
        """Refuses what `__call__` cannot use, in one sentence that names the argument and what is allowed.

        Raises:
            ValueError: for the first such input.
        """
        super().check_inputs(
            prompt, negative_prompt, height, width, num_inference_steps, guidance_scale, num_images_per_prompt,
            generator, latents, prompt_embeds, negative_prompt_embeds, output_type, callback_on_step_end_tensor_inputs,
        )  # fmt: skip
        embed_width = self.unet.config.cross_attention_dim
        check_embeds("prompt", prompt_embeds, prompt_attention_mask, embed_width)
        check_embeds("negative_prompt", negative_prompt_embeds, negative_prompt_attention_mask, embed_width)
        _check_sigmas(sigmas, self.scheduler)

    def _check_components(self) -> None:
        super()._check_components()
        width = self.unet.config.cross_attention_dim
        clip_g = 0 if self.text_encoder_2 is None else self.text_encoder_2.config.hidden_size
        gemma = 0 if self.text_encoder_3 is None else self.text_encoder_3.config.hidden_size
        clip_l = self.config.clip_l_width
        if self.text_encoder is not None and self.text_encoder.config.hidden_size != clip_l:
            raise ValueError(
                f"clip_l_width is {clip_l}, but text_encoder is {self.text_encoder.config.hidden_size} wide."
            )
        if clip_l + clip_g > width or gemma > width:
            raise ValueError(
                f"the text encoders are {clip_l} + {clip_g} (CLIP) and {gemma} (Gemma) channels wide, more than the "
                f"UNet's cross_attention_dim of {width}."
            )


def _check_dropped(dropped: Sequence[Collection[str]], prompts: int) -> list[set[str]]:
    if len(dropped) != prompts:
        raise ValueError(f"dropped has {len(dropped)} entries, but there are {prompts} prompts.")
    for name in {name for names in dropped for name in names}:
        check_choice("dropped", name, tuple(ENCODERS))
    return [set(names) for names in dropped]


def _check_sigmas(sigmas: list[float] | None, scheduler: FlowMatchEulerDiscreteScheduler) -> None:
    if sigmas is None:
        return
    if "sigmas" not in inspect.signature(scheduler.set_timesteps).parameters:
        raise ValueError(f"{type(scheduler).__name__} takes no sigmas: pass num_inference_steps alone.")
    levels = [check_number("sigmas", level, low=0, high=1) for level in sigmas]
    if not levels or 0.0 in levels or any(b >= a for a, b in pairwise(levels)):
        raise ValueError(f"sigmas must fall from step to step within (0, 1], not {levels}.")


def _dynamic_shift(config: dict[str, Any], tokens: int) -> float:
    """SD3's resolution-dependent shift: linear in the number of 2 x 2 latent patches, whatever patches a UNet has."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, top = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return base + (top - base) * (tokens - low) / (high - low)
