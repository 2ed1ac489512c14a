"""Class to image with AsCAN (arXiv 2411.04967): a UNet of C and T blocks in a latent space."""

import copy
import operator
from collections import defaultdict
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float, Int
from torch import Tensor

from ..hub_models.unet_ascan import AsCANUNet2DModel
from .inputs import check_choice, check_count, check_number, check_side
from .outputs import ImageOutput
from .recognition.class_names import checked_names, stored_names
from .repository import RepositoryMixin
from .sampling.defaults import SamplingDefaults
from .sampling.latent_sampling import (
    OUTPUT_TYPES,
    Callback,
    GivenFeatures,
    LatentSamplingMixin,
    check_embeds,
    joined_features,
    watched_tensors,
)
from .sampling.noise import Generators, check_generator

ClassLabels = int | str | Sequence[int | str] | Int[Tensor, " samples"]


class AsCANPipeline(RepositoryMixin, LatentSamplingMixin, DiffusionPipeline):
    """Pictures of classes with AsCAN; of texts, or of both, where the UNet was made for them.

    Called like diffusers' `DiTPipeline`.

    Args:
        unet: denoiser.
        vae: decoder of latents: any autoencoder of diffusers or of this package.
        scheduler: of diffusers, for what the UNet predicts: noise, v or a flow's velocity.
        id2label: names of the classes, number -> name; several names of one class stand between commas. None names
            each class by its number.

    Raises:
        ValueError: for components that do not fit together.
    """

    # The paper's tables were not at hand: guidance is that of diffusers' `DiTPipeline`, and the nano model was measured
    # with these steps.
    defaults: ClassVar = SamplingDefaults(num_inference_steps=28, guidance_scale=4.0)
    model_cpu_offload_seq = "unet->vae"
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "class_labels", "prompt_embeds", "prompt_attention_mask"]
    _unet_inputs: ClassVar[dict[str, str]] = {
        "class_labels": "class_labels", "prompt_embeds": "encoder_hidden_states",
        "prompt_attention_mask": "encoder_attention_mask",
    }  # fmt: skip

    def __init__(
        self,
        unet: AsCANUNet2DModel,
        vae: ModelMixin,
        scheduler: SchedulerMixin,
        id2label: dict[str, str] | dict[int, str] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, vae=vae, scheduler=scheduler)
        self._check_components(id2label)
        names = checked_names(id2label, unet.config.num_classes or 0)
        self.register_to_config(id2label=stored_names(names))
        self._ids: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(names):
            for part in name.split(","):
                self._ids[part.strip()].append(number)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @property
    def labels(self) -> dict[str, int]:
        """Every class name, in alphabetical order, and its number (the first, where classes share a name)."""
        return {name: self._ids[name][0] for name in sorted(self._ids)}

    def prompt_arguments(
        self, prompt: str, negative_prompt: str | None = None, num_images_per_prompt: int = 1, **options: Any
    ) -> dict[str, Any]:
        """Arguments of a call that draws `prompt`, the name or the number of a class; a number that is a name is one.

        Raises:
            ValueError: for a negative prompt.
        """
        if negative_prompt is not None:
            raise ValueError(f"negative_prompt cannot be used: {type(self).__name__} draws classes, not texts.")
        label = int(prompt) if prompt.isdecimal() and prompt not in self.labels else prompt
        return {"class_labels": label, "num_images_per_class": num_images_per_prompt, **options}

    def get_label_ids(self, label: str | list[str]) -> list[int]:
        """The numbers of classes by their names.

        Raises:
            ValueError: for a name that no class has, with the nearest ones, or that several have, with their numbers.
        """
        return [self._label_id(name) for name in ([label] if isinstance(label, str) else label)]

    @property
    def size_multiple(self) -> int:
        """Height and width of pictures must be multiples of this many pixels."""
        return self.vae_scale_factor * self.unet.size_multiple

    @torch.no_grad()
    def __call__(
        self,
        class_labels: ClassLabels | None = None,
        guidance_scale: float = defaults.guidance_scale,
        generator: Generators | None = None,
        num_inference_steps: int = defaults.num_inference_steps,
        output_type: str = "pil",
        return_dict: bool = True,
        num_images_per_class: int = 1,
        height: int | None = None,
        width: int | None = None,
        latents: Float[Tensor, "batch channels h w"] | None = None,
        prompt_embeds: Float[Tensor, "prompts tokens width"] | None = None,
        prompt_attention_mask: Tensor | None = None,
        negative_prompt_embeds: Float[Tensor, "prompts tokens width"] | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
    ) -> ImageOutput | tuple[Any]:
        """Makes pictures of classes.

        Args:
            class_labels: a class or a list of them, each by its number or its name (see `labels`); not for a UNet that
                was made for text alone.
            guidance_scale: strength of classifier-free guidance away from no class, 0 or more; up to 1 is without, in
                half the time.
            generator: source of noise. A list, one for each picture, makes a picture depend on its own seed only; a
                single one is drawn from picture after picture. Use CPU generators for one result on every device.
            num_inference_steps: steps of the scheduler, at least 1.
            output_type: "pil", "np", "pt" or "latent"; ranges and shapes in `ImageOutput`.
            return_dict: False returns a tuple of the images alone.
            num_images_per_class: pictures of each class (or text), side by side.
            height: pixels, a multiple of `size_multiple`; None is `default_size` (or what `latents` has).
            width: likewise.
            latents: starting noise of unit variance, in place of drawn noise.
            prompt_embeds: text features, for a UNet with cross-attention; beside `class_labels`, one for each.
            prompt_attention_mask: mask of their tokens, nonzero for real ones; None takes all.
            negative_prompt_embeds: text features to steer away from; needed for guidance over text.
            negative_prompt_attention_mask: likewise.
            callback_on_step_end: called as `(pipeline, step, timestep, tensors)` after each step; returns a dict whose
                tensors replace the running ones.
            callback_on_step_end_tensor_inputs: names of the tensors it gets, out of "latents", "class_labels",
                "prompt_embeds" and "prompt_attention_mask"; None gives latents. With guidance, all but latents hold no
                class (or the negative prompts) first.

        Returns:
            `ImageOutput`, or `(images,)`.

        Raises:
            ValueError: for every input that cannot be used, before anything is computed.
        """
        watched = watched_tensors(callback_on_step_end, callback_on_step_end_tensor_inputs)
        height, width = self._side(height, latents, 2), self._side(width, latents, 3)
        self.check_inputs(
            class_labels, guidance_scale, generator, num_inference_steps, output_type, num_images_per_class, height,
            width, latents, prompt_embeds, prompt_attention_mask, negative_prompt_embeds,
            negative_prompt_attention_mask, watched,
        )  # fmt: skip
        with self._calling(guidance_scale):
            embeds, mask = self._text(
                num_images_per_class,
                (prompt_embeds, prompt_attention_mask),
                (negative_prompt_embeds, negative_prompt_attention_mask),
            )
            state = {
                "class_labels": self._classes(class_labels, num_images_per_class),
                "prompt_embeds": embeds,
                "prompt_attention_mask": mask,
            }
            scheduler = copy.deepcopy(self.scheduler)  # calls leave the registered one as it was
            scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
            rows = len(state["class_labels"] if embeds is None else embeds)
            state["latents"] = self._noise(rows, height, width, generator) if latents is None else latents
            drawn = self._sample(scheduler, state, generator, callback_on_step_end, watched)
            images = self._decode(drawn, output_type)
        self.maybe_free_model_hooks()
        return ImageOutput(images=images) if return_dict else (images,)

    def _classes(self, labels: ClassLabels | None, copies: int) -> Int[Tensor, " rows"] | None:
        """Numbers for the UNet's batch: with guidance first as many that mean no class."""
        if labels is None:
            return None
        numbers = torch.tensor(self._class_ids(labels), device=self._execution_device).repeat_interleave(copies)
        null = torch.full_like(numbers, self.unet.config.num_classes)
        return torch.cat([null, numbers]) if self.do_classifier_free_guidance else numbers

    def _text(self, copies: int, given: GivenFeatures, negative: GivenFeatures) -> GivenFeatures:
        """Features for the UNet's batch: with guidance the negative prompts first, padded to one length."""
        if given[0] is None:
            return None, None
        parts = [negative, given] if self.do_classifier_free_guidance else [given]
        return joined_features([self._given_features(*part, copies) for part in parts])

    def check_inputs(
        self,
        class_labels: ClassLabels | None,
        guidance_scale: float,
        generator: Generators | None,
        num_inference_steps: int,
        output_type: str,
        num_images_per_class: int,
        height: int,
        width: int,
        latents: Tensor | None,
        prompt_embeds: Tensor | None,
        prompt_attention_mask: Tensor | None,
        negative_prompt_embeds: Tensor | None,
        negative_prompt_attention_mask: Tensor | None,
        callback_on_step_end_tensor_inputs: list[str],
    ) -> None:
        """Refuses what `__call__` cannot use, in one sentence that names the argument and what is allowed.

        Raises:
            ValueError: for the first such input.
        """
        check_count("num_inference_steps", num_inference_steps)
        check_count("num_images_per_class", num_images_per_class)
        check_number("guidance_scale", guidance_scale, low=0)
        check_choice("output_type", output_type, OUTPUT_TYPES)
        check_side("height", height, self.size_multiple)
        check_side("width", width, self.size_multiple)
        for name in callback_on_step_end_tensor_inputs:
            check_choice("callback_on_step_end_tensor_inputs", name, self._present_tensors())
        if self.scheduler.config.get("use_dynamic_shifting"):
            raise ValueError("the scheduler has use_dynamic_shifting=True, but AsCAN's noise does not follow the size.")
        samples = self._check_conditions(
            class_labels,
            (prompt_embeds, prompt_attention_mask),
            (negative_prompt_embeds, negative_prompt_attention_mask),
            guided=guidance_scale > 1,
        )
        check_generator(generator, samples * num_images_per_class)
        self._check_latents(latents, samples * num_images_per_class, height, width)

    def _present_tensors(self) -> list[str]:
        config = self.unet.config
        absent = {"class_labels"} if not config.num_classes else set()
        absent |= {"prompt_embeds", "prompt_attention_mask"} if not config.cross_attention_dim else set()
        return [name for name in self._callback_tensor_inputs if name not in absent]

    def _check_conditions(
        self, labels: ClassLabels | None, given: GivenFeatures, negative: GivenFeatures, guided: bool
    ) -> int:
        """How many classes or prompts there are."""
        classes, text_width = self.unet.config.num_classes, self.unet.config.cross_attention_dim
        counts = {}
        if classes and labels is None:
            raise ValueError(f"class_labels are needed: numbers from 0 to {classes - 1}, or names out of `labels`.")
        if labels is not None and not classes:
            raise ValueError("class_labels cannot be used: this UNet was made for text alone, pass prompt_embeds.")
        if labels is not None:
            counts["class_labels"] = len(self._class_ids(labels))
        for name, (embeds, mask) in {"prompt": given, "negative_prompt": negative}.items():
            if text_width is None and (embeds is not None or mask is not None):
                raise ValueError(f"{name}_embeds cannot be used: this UNet was made for classes alone.")
            check_embeds(name, embeds, mask, text_width)
            if embeds is not None:
                counts[f"{name}_embeds"] = len(embeds)
        if text_width and given[0] is None:
            raise ValueError(f"prompt_embeds are needed: this UNet attends to text features {text_width} wide.")
        if text_width and guided and negative[0] is None:
            raise ValueError("negative_prompt_embeds are needed for guidance: pass them, or guidance_scale=1.")
        if len(set(counts.values())) > 1:
            listing = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise ValueError(f"classes and prompts must be equally many, but there are {listing}.")
        return next(iter(counts.values()))

    def _class_ids(self, labels: ClassLabels) -> list[int]:
        if isinstance(labels, Tensor | np.ndarray):
            labels = labels.tolist()
        entries = labels if isinstance(labels, list | tuple) else [labels]
        if not entries:
            raise ValueError("class_labels is empty: pass at least one class.")
        return [self._class_id(entry) for entry in entries]

    def _class_id(self, entry: Any) -> int:
        if isinstance(entry, str):
            return self._label_id(entry)
        last = self.unet.config.num_classes - 1
        try:
            number = -1 if isinstance(entry, bool) else operator.index(entry)
        except TypeError:
            number = -1
        if not 0 <= number <= last:
            raise ValueError(f"class_labels must be numbers from 0 to {last} or class names, not {entry!r}.")
        return number

    def _label_id(self, name: str) -> int:
        numbers = self._ids.get(name, [])
        if len(numbers) == 1:
            return numbers[0]
        if numbers:
            listing = " and ".join(map(str, numbers))
            raise ValueError(f"the name {name!r} belongs to the classes {listing}: pass the number.")
        near = get_close_matches(str(name), self._ids, n=3, cutoff=0.4) or sorted(self._ids)[:3]
        raise ValueError(f"no class is named {name!r}: the nearest are {', '.join(map(repr, near))}.")

    def _check_components(self, id2label: Mapping[int | str, str] | None) -> None:
        config, latent = self.unet.config, self.vae.config.latent_channels
        if not config.num_classes and not config.cross_attention_dim:
            raise ValueError("the UNet has neither num_classes nor cross_attention_dim: it can be asked for nothing.")
        if id2label and not config.num_classes:
            raise ValueError("id2label cannot be used: this UNet was made for text alone.")
        if config.in_channels != latent or config.out_channels != latent:
            raise ValueError(
                f"the UNet takes {config.in_channels} and makes {config.out_channels} latent channels, but the vae has "
                f"{latent}."
            )
