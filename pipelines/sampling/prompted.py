"""What pipelines that draw what prompts say share: tokens, features that are given instead, and checks of a call."""

from threading import Lock
from typing import Any, ClassVar

from diffusers.utils import logging
from torch import Tensor

from ..inputs import check_choice, check_count, check_number, check_side
from .latent_sampling import (
    OUTPUT_TYPES,
    Features,
    GivenFeatures,
    LatentSamplingMixin,
    check_embeds,
    joined_features,
)
from .noise import Generators, check_generator

logger = logging.get_logger(__name__)

TOKENIZING = Lock()
"""Held while a tokenizer runs: it keeps padding and truncation in itself, so two threads would mix theirs."""
Texts = str | list[str]


class PromptedMixin(LatentSamplingMixin):
    """For a pipeline of `LatentSamplingMixin` whose UNet attends to text features.

    It has a property `size_multiple`.
    """

    _text_encoders: ClassVar[dict[str, str]]
    """Names of components: text encoders, each of which may be missing, and their tokenizers."""
    _callback_tensor_inputs: ClassVar[list[str]]

    def prompt_arguments(self, prompt: str, **options: Any) -> dict[str, Any]:
        """Arguments of a call that draws `prompt`."""
        return {"prompt": prompt, **options}

    def _encode(self, prompts: list[str], copies: int) -> Features:
        """Features for the UNet, each `copies` times, side by side."""
        raise NotImplementedError

    def _tokens(self, name: str, prompts: list[str], length: int) -> tuple[Tensor, Tensor]:
        """Token ids of a text encoder's prompts and the mask of real ones, both [prompts, length]."""
        tokenizer = getattr(self, self._text_encoders[name])
        with TOKENIZING:
            for prompt, ids in zip(prompts, tokenizer(prompts, verbose=False).input_ids, strict=True):
                if len(ids) > length:
                    logger.warning(f"{name} reads {length} of the {len(ids)} tokens of the prompt {prompt!r}.")
            tokens = tokenizer(
                prompts,
                padding="max_length",
                padding_side="right",
                max_length=length,
                truncation=True,
                return_tensors="pt",
            )
        device = self._execution_device
        return tokens.input_ids.to(device), tokens.attention_mask.to(device)

    def _conditioning(
        self,
        prompt: Texts | None,
        negative_prompt: Texts | None,
        copies: int,
        given: GivenFeatures,
        given_negative: GivenFeatures,
    ) -> Features:
        """Features for the UNet's batch: with guidance the negative prompts first, padded to one length."""
        positive = self._given_features(*given, copies) if prompt is None else self._encode(listed(prompt), copies)
        if not self.do_classifier_free_guidance:
            return positive
        if given_negative[0] is None:
            negative = self._encode(negatives(negative_prompt, len(positive[0]) // copies), copies)
        else:
            negative = self._given_features(*given_negative, copies)
        return joined_features([negative, positive])

    def check_inputs(
        self,
        prompt: Texts | None,
        negative_prompt: Texts | None,
        height: int,
        width: int,
        num_inference_steps: int,
        guidance_scale: float,
        num_images_per_prompt: int,
        generator: Generators | None,
        latents: Tensor | None,
        prompt_embeds: Tensor | None,
        negative_prompt_embeds: Tensor | None,
        output_type: str,
        callback_on_step_end_tensor_inputs: list[str],
    ) -> None:
        """Refuses what `__call__` cannot use, in one sentence that names the argument and what is allowed.

        Raises:
            ValueError: for the first such input.
        """
        check_count("num_inference_steps", num_inference_steps)
        check_count("num_images_per_prompt", num_images_per_prompt)
        check_number("guidance_scale", guidance_scale, low=0)
        check_choice("output_type", output_type, OUTPUT_TYPES)
        check_side("height", height, self.size_multiple)
        check_side("width", width, self.size_multiple)
        for name in callback_on_step_end_tensor_inputs:
            check_choice("callback_on_step_end_tensor_inputs", name, self._callback_tensor_inputs)
        embed_width = self.unet.config.cross_attention_dim
        check_embeds("prompt", prompt_embeds, None, embed_width)
        check_embeds("negative_prompt", negative_prompt_embeds, None, embed_width)
        prompts = self._check_prompts(prompt, prompt_embeds)
        self._check_negatives(negative_prompt, negative_prompt_embeds, prompts, guided=guidance_scale > 1)
        check_generator(generator, prompts * num_images_per_prompt)
        self._check_latents(latents, prompts * num_images_per_prompt, height, width)

    def _check_prompts(self, prompt: Texts | None, embeds: Tensor | None) -> int:
        if (prompt is None) == (embeds is None):
            raise ValueError("pass either prompt or prompt_embeds" + (", not both." if embeds is not None else "."))
        if embeds is not None:
            return len(embeds)
        self._check_has_encoder("prompt")
        prompts = _check_texts("prompt", prompt)
        for index, text in enumerate(prompts):
            if not text.strip():
                where = "" if isinstance(prompt, str) else f" (entry {index})"
                raise ValueError(f"prompt{where} is empty: describe the picture in words.")
        return len(prompts)

    def _check_negatives(self, negative: Texts | None, embeds: Tensor | None, prompts: int, guided: bool) -> None:
        if negative is not None and embeds is not None:
            raise ValueError("pass either negative_prompt or negative_prompt_embeds, not both.")
        if embeds is not None and len(embeds) != prompts:
            raise ValueError(f"negative_prompt_embeds holds {len(embeds)} prompts, but there are {prompts} prompts.")
        if negative is not None:
            texts = _check_texts("negative_prompt", negative)
            if not isinstance(negative, str) and len(texts) != prompts:
                raise ValueError(f"negative_prompt is a list of {len(texts)}, but there are {prompts} prompts.")
        if embeds is None and guided:
            self._check_has_encoder("negative_prompt")

    def _check_has_encoder(self, name: str) -> None:
        if not any(getattr(self, encoder) is not None for encoder in self._text_encoders):
            raise ValueError(f"this pipeline has no text encoder: pass {name}_embeds instead of {name}.")

    def _check_components(self) -> None:
        for encoder, tokenizer in self._text_encoders.items():
            if getattr(self, encoder) is not None and getattr(self, tokenizer) is None:
                raise ValueError(f"{encoder} needs its {tokenizer}: pass both or neither.")
        channels, latent = self.unet.config.in_channels, self.vae.config.latent_channels
        if channels != latent:
            raise ValueError(f"the UNet takes {channels} latent channels, but the vae has {latent}.")


def listed(prompt: Texts) -> list[str]:
    """One prompt as a list of it; several as they are."""
    return [prompt] if isinstance(prompt, str) else list(prompt)


def negatives(negative_prompt: Texts | None, prompts: int) -> list[str]:
    """A negative prompt for each prompt: the empty one where none is given."""
    text = "" if negative_prompt is None else negative_prompt
    return [text] * prompts if isinstance(text, str) else list(text)


def _check_texts(name: str, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be a string or a list of strings with at least one entry, not {value!r}.")
    return list(texts)
