"""What pipelines that denoise latents under guidance share: the loop, and the decoding."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers import SchedulerMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from jaxtyping import Bool, Float
from torch import Tensor

from ...hub_models.layers.latent_scaling import unscale_latents
from .noise import Generators, draw_noise
from .running_call import CallStateMixin

OUTPUT_TYPES = ("pil", "np", "pt", "latent")

Callback = (
    Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor]] | PipelineCallback | MultiPipelineCallbacks
)
"""Called as `(pipeline, step, timestep, tensors)` after each step; returns tensors that replace the running ones."""
Features = tuple[Float[Tensor, "batch tokens channels"], Bool[Tensor, "batch tokens"]]
"""Text features and the mask of their real (not padding) tokens."""
GivenFeatures = tuple[Tensor | None, Tensor | None]
"""The same as a caller passes them; None where there are none."""


class LatentSamplingMixin(CallStateMixin):
    """For a `DiffusionPipeline` with `unet`, `vae`, `scheduler` and `image_processor`.

    While it runs, its state is a dict of "latents" and of what conditions the UNet. Under guidance each condition holds
    what is steered away from first, then what is asked for: twice as many rows as there are latents.
    """

    _unet_inputs: ClassVar[dict[str, str]]
    """Conditions of the running state, and what the UNet calls them."""

    @property
    def vae_scale_factor(self) -> int:
        """Pixels a latent stands for, along each side."""
        config = self.vae.config
        ratio = getattr(self.vae, "spatial_compression_ratio", None)
        stages = config.get("block_out_channels") or config.get("encoder_block_out_channels") or (1,)
        return ratio or 2 ** (len(stages) - 1)

    @property
    def default_size(self) -> int:
        """Side in pixels of the square pictures that the UNet was made for."""
        return self.unet.config.sample_size * self.vae_scale_factor

    def _side(self, given: int | None, latents: Tensor | None, axis: int) -> int:
        """Height (axis 2) or width (axis 3) in pixels: as given, else what the latents have, else the default."""
        if given is not None:
            return given
        known = latents is not None and latents.ndim == 4
        return latents.shape[axis] * self.vae_scale_factor if known else self.default_size

    def _latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return (self.unet.config.in_channels, height // self.vae_scale_factor, width // self.vae_scale_factor)

    def _check_latents(self, latents: Tensor | None, samples: int, height: int, width: int) -> None:
        wanted = (samples, *self._latent_shape(height, width))
        if latents is not None and tuple(latents.shape) != wanted:
            raise ValueError(f"latents must be {list(wanted)}, not {list(latents.shape)}.")

    def _noise(self, rows: int, height: int, width: int, generator: Generators | None) -> Tensor:
        """Starting latents for conditions of so many rows."""
        samples = rows // (2 if self.do_classifier_free_guidance else 1)
        return draw_noise(samples, self._latent_shape(height, width), generator)

    def _sample(
        self,
        scheduler: SchedulerMixin,
        state: dict[str, Tensor | None],
        generator: Generators | None,
        callback: Callback | None,
        watched: Sequence[str],
    ) -> Float[Tensor, "batch channels h w"]:
        """The latents of `state` after all timesteps set in `scheduler`; a callback sees the `watched` tensors."""
        self._num_timesteps = len(scheduler.timesteps)
        latents = state["latents"].to(self._execution_device, torch.float32)
        state = {**state, "latents": latents * getattr(scheduler, "init_noise_sigma", 1.0)}
        drawn = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
        with self.progress_bar(total=self._num_timesteps) as bar:
            for step, timestep in enumerate(scheduler.timesteps):
                prediction = self._predict(scheduler, timestep, **state)
                state["latents"] = scheduler.step(prediction, timestep, state["latents"], return_dict=False, **drawn)[0]
                if callback is not None:
                    changed = callback(self, step, timestep, {name: state[name] for name in watched}) or {}
                    state.update({name: changed[name] for name in state.keys() & changed.keys()})
                bar.update()
                if self.interrupt:
                    break
        return state["latents"]

    def _predict(
        self, scheduler: SchedulerMixin, timestep: Tensor, latents: Tensor, **conditions: Tensor | None
    ) -> Float[Tensor, "batch channels h w"]:
        """What the UNet makes of the latents: under guidance negative + scale * (positive - negative)."""
        guided = self.do_classifier_free_guidance
        sample = torch.cat([latents, latents]) if guided else latents
        if hasattr(scheduler, "scale_model_input"):
            sample = scheduler.scale_model_input(sample, timestep)
        rows = slice(-len(sample), None)  # a callback may have switched guidance off
        prediction = self.unet(
            sample.to(self.unet.dtype),
            timestep.expand(len(sample)),
            **{self._unet_inputs[name]: None if value is None else value[rows] for name, value in conditions.items()},
            return_dict=False,
        )[0].float()
        if not guided:
            return prediction
        negative, positive = prediction.chunk(2)
        return negative + self.guidance_scale * (positive - negative)

    def _decode(self, latents: Tensor, output_type: str) -> Any:
        """Pictures of `output_type`, one of `OUTPUT_TYPES`."""
        if output_type == "latent":
            return latents
        latents = unscale_latents(latents, self.vae.config)
        pictures = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0]
        return self.image_processor.postprocess(pictures.float(), output_type=output_type)

    def _given_features(self, embeds: Tensor, mask: Tensor | None, copies: int) -> Features:
        """Text features that a caller passed, for the UNet: each `copies` times, side by side."""
        device = self._execution_device
        mask = torch.ones(embeds.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
        embeds = embeds.to(device, self.unet.dtype)
        return embeds.repeat_interleave(copies, dim=0), mask.to(device).repeat_interleave(copies, dim=0)


def watched_tensors(callback: Callback | None, names: list[str] | None) -> list[str]:
    """Names of the tensors that a callback gets: its own, those given, or the latents alone."""
    if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
        names = callback.tensor_inputs
    return names or ["latents"]


def joined_features(parts: Sequence[Features]) -> Features:
    """Text features after each other in the batch, padded to the longest."""
    tokens = max(embeds.shape[1] for embeds, _ in parts)
    embeds = [F.pad(embeds, (0, 0, 0, tokens - embeds.shape[1])) for embeds, _ in parts]
    return torch.cat(embeds), torch.cat([F.pad(mask, (0, tokens - mask.shape[1])) for _, mask in parts])


def check_embeds(name: str, embeds: Tensor | None, mask: Tensor | None, width: int | None) -> None:
    """Refuses text features that a UNet with cross-attention of `width` channels cannot use.

    Raises:
        ValueError: naming `<name>_embeds` or `<name>_attention_mask`.
    """
    if embeds is None:
        if mask is not None:
            raise ValueError(f"{name}_attention_mask needs {name}_embeds.")
        return
    if embeds.ndim != 3 or embeds.shape[2] != width or 0 in embeds.shape:
        raise ValueError(f"{name}_embeds must be [prompts, tokens, {width}], not {list(embeds.shape)}.")
    if mask is not None and mask.shape != embeds.shape[:2]:
        raise ValueError(f"{name}_attention_mask must be {list(embeds.shape[:2])}, not {list(mask.shape)}.")
