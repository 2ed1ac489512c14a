"""Text to image by a UNet of Stable Diffusion's shape, whose weights may take 1.99 bits (BitsFusion,
arXiv 2406.04333).
"""

import copy
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from ..hub_models import quantizer_bitsfusion  # noqa: F401 (registers the quantiser, which loading a packed UNet needs)
from .inputs import require
from .outputs import ImageOutput
from .repository import RepositoryMixin
from .sampling.cached_steps import check_cached_steps
from .sampling.defaults import SamplingDefaults
from .sampling.latent_sampling import Callback, Features, watched_tensors
from .sampling.lora import UNetLoraMixin
from .sampling.noise import Generators
from .sampling.prompted import PromptedMixin, Texts, listed, negatives

PREDICTIONS = ("epsilon", "v_prediction")
OTHER_CONDITIONS = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type")


class BitsFusionPipeline(RepositoryMixin, PromptedMixin, UNetLoraMixin, DiffusionPipeline):
    """Text to image with the parts of Stable Diffusion, its UNet in full precision or packed into few bits.

    It loads a folder of Stable Diffusion 1 or 2 as well; a safety checker in it is not loaded.

    Args:
        vae: decoder of latents: any autoencoder of diffusers or of this package.
        unet: predicts noise or v; one with a cache of time embeddings takes the numbers of steps that the cache has.
        scheduler: of diffusers, for what the UNet predicts.
        text_encoder: CLIP, as wide as the UNet's cross-attention, or None.
        tokenizer: its tokenizer.

    Raises:
        ValueError: for an encoder without tokenizer, or components that do not fit together.
    """

    # The paper draws in 50 steps of PNDM; half of them serve the nano model, and a cache of 50 has those of 25 too.
    defaults: ClassVar = SamplingDefaults(num_inference_steps=25, guidance_scale=4.0)
    model_cpu_offload_seq = "text_encoder->unet->vae"
    _text_encoders: ClassVar[dict[str, str]] = {"text_encoder": "tokenizer"}
    _optional_components: ClassVar[list[str]] = ["text_encoder", "tokenizer"]
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds"]
    _unet_inputs: ClassVar[dict[str, str]] = {"prompt_embeds": "encoder_hidden_states"}

    def __init__(
        self,
        vae: ModelMixin,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler, text_encoder=text_encoder, tokenizer=tokenizer)
        self._check_components()
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @property
    def size_multiple(self) -> int:
        """Height and width of pictures must be multiples of this many pixels."""
        return self.vae_scale_factor

    def encode_prompt(
        self,
        prompt: Texts,
        negative_prompt: Texts | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
    ) -> tuple[Float[Tensor, "batch tokens width"], Float[Tensor, "batch tokens width"] | None]:
        """Text features as Stable Diffusion has them: CLIP's last hidden state, of padding too.

        Args:
            prompt: a prompt or a list of them.
            negative_prompt: one for all prompts, or one each; None is the empty prompt.
            num_images_per_prompt: copies of each prompt's features, side by side.
            do_classifier_free_guidance: also encode the negative prompts.

        Returns:
            prompt_embeds [batch, tokens, width] in the UNet's number format, with as many tokens as the encoder takes,
            and the same of the negative prompts (None without guidance), with batch = prompts x
            `num_images_per_prompt`.

        Raises:
            ValueError: when the pipeline has no text encoder.
        """
        self._check_has_encoder("prompt")
        prompts = listed(prompt)
        embeds, _ = self._encode(prompts, num_images_per_prompt)
        if not do_classifier_free_guidance:
            return embeds, None
        return embeds, self._encode(negatives(negative_prompt, len(prompts)), num_images_per_prompt)[0]

    def _encode(self, prompts: list[str], copies: int) -> Features:
        ids, _ = self._tokens("text_encoder", prompts, self._token_limit)
        return self._given_features(self.text_encoder(ids).last_hidden_state, None, copies)

    @property
    def _token_limit(self) -> int:
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)

    @torch.no_grad()
    def __call__(
        self,
        prompt: Texts | None = None,
        negative_prompt: Texts | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = defaults.num_inference_steps,
        guidance_scale: float = defaults.guidance_scale,
        num_images_per_prompt: int = 1,
        generator: Generators | None = None,
        latents: Float[Tensor, "batch channels h w"] | None = None,
        prompt_embeds: Float[Tensor, "prompts tokens width"] | None = None,
        negative_prompt_embeds: Float[Tensor, "prompts tokens width"] | None = None,
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
            num_inference_steps: steps of the scheduler, at least 1; a UNet with a cache of time embeddings takes those
                numbers whose timesteps it has.
            guidance_scale: strength of classifier-free guidance, 0 or more; up to 1 is without, in half the time.
            num_images_per_prompt: pictures of each prompt.
            generator: source of noise. A list, one for each picture, makes a picture depend on its own seed only; a
                single one is drawn from picture after picture. Use CPU generators for one result on every device.
            latents: starting noise of unit variance, in place of drawn noise.
            prompt_embeds: text features in place of `prompt`, as `encode_prompt` makes them for one image a prompt.
            negative_prompt_embeds: likewise, in place of `negative_prompt`, with as many tokens.
            output_type: "pil", "np", "pt" or "latent"; ranges and shapes in `ImageOutput`.
            return_dict: False returns a tuple of the images alone.
            callback_on_step_end: called as `(pipeline, step, timestep, tensors)` after each step; returns a dict
                whose "latents" and "prompt_embeds" replace the running ones.
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
            generator, latents, prompt_embeds, negative_prompt_embeds, output_type, watched,
        )  # fmt: skip
        with self._calling(guidance_scale):
            embeds, _ = self._conditioning(
                prompt, negative_prompt, num_images_per_prompt, (prompt_embeds, None), (negative_prompt_embeds, None)
            )
            state = {
                "latents": self._noise(len(embeds), height, width, generator) if latents is None else latents,
                "prompt_embeds": embeds,
            }
            scheduler = copy.deepcopy(self.scheduler)  # calls leave the registered one as it was
            scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
            drawn = self._sample(scheduler, state, generator, callback_on_step_end, watched)
            images = self._decode(drawn, output_type)
        self.maybe_free_model_hooks()
        return ImageOutput(images=images) if return_dict else (images,)

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
        super().check_inputs(
            prompt, negative_prompt, height, width, num_inference_steps, guidance_scale, num_images_per_prompt,
            generator, latents, prompt_embeds, negative_prompt_embeds, output_type, callback_on_step_end_tensor_inputs,
        )  # fmt: skip
        if guidance_scale > 1:
            self._check_lengths(prompt_embeds, negative_prompt_embeds)
        self._check_steps(num_inference_steps)

    def _check_lengths(self, *embeds: Tensor | None) -> None:
        """Without a mask, padding that made lengths equal would be attended to."""
        tokens, negative = (self._token_limit if given is None else given.shape[1] for given in embeds)
        if tokens != negative:
            raise ValueError(
                f"prompts and negative prompts must have equally many tokens, not {tokens} and {negative}."
            )

    def _check_steps(self, steps: int) -> None:
        prediction, most = self.scheduler.config.get("prediction_type"), self.scheduler.config.num_train_timesteps
        require(prediction in PREDICTIONS, "the scheduler's prediction_type", prediction, " or ".join(PREDICTIONS))
        require(steps <= most, "num_inference_steps", steps, f"at most {most}, which the scheduler has in all")
        check_cached_steps(self.unet, self.scheduler, steps)

    def _check_components(self) -> None:
        super()._check_components()
        config = self.unet.config
        for name in OTHER_CONDITIONS:
            if config.get(name) is not None:
                raise ValueError(f"the UNet must be conditioned on text alone, not by {name}={config[name]!r} too.")
        if self.text_encoder is not None and self.text_encoder.config.hidden_size != config.cross_attention_dim:
            raise ValueError(
                f"text_encoder is {self.text_encoder.config.hidden_size} wide, but the UNet attends to features "
                f"{config.cross_attention_dim} wide."
            )
