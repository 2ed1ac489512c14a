"""Text to image by a UNet of Stable Diffusion's shape, whose weights may take 1.99 bits (BitsFusion,
arXiv 2406.04333).
"""

from typing import Any, ClassVar

from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from .repository import RepositoryMixin
from .sampling.defaults import SamplingDefaults
from .sampling.latent_sampling import LatentSamplingMixin
from .sampling.lora import UNetLoraMixin


class BitsFusionPipeline(RepositoryMixin, LatentSamplingMixin, UNetLoraMixin, DiffusionPipeline):
    """Text to image."""

    defaults: ClassVar = SamplingDefaults(num_inference_steps=25, guidance_scale=4.0)
    model_cpu_offload_seq = "text_encoder->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler, text_encoder=text_encoder, tokenizer=tokenizer)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    def encode_prompt(
        self, prompt: list[str], do_classifier_free_guidance: bool = True
    ) -> tuple[Float[Tensor, "batch tokens width"], Any]:
        limit = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        tokens = self.tokenizer(
            prompt, padding="max_length", padding_side="right", max_length=limit, truncation=True, return_tensors="pt"
        )
        hidden = self.text_encoder(tokens.input_ids.to(self._execution_device)).last_hidden_state
        return hidden.to(self.unet.dtype), None
