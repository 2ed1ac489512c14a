"""Class to image with AsCAN (arXiv 2411.04967): a UNet of C and T blocks in a latent space."""

import copy
import inspect
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float, Int
from torch import Tensor

from ..hub_models.layers.latent_scaling import unscale_latents
from ..hub_models.unet_ascan import AsCANUNet2DModel
from .class_names import class_names, stored_names
from .inputs import check_choice, check_count, check_number, check_side
from .noise import Generators, check_generator, draw_noise
from .outputs import ImageOutput
from .repository import RepositoryMixin

OUTPUT_TYPES = ("pil", "np", "pt", "latent")

ClassLabels = int | str | Sequence[int | str] | Int[Tensor, " samples"]
Features = tuple[Tensor | None, Tensor | None]
"""Text features and the mask of their tokens; None where there are none."""


class AsCANPipeline(RepositoryMixin, DiffusionPipeline):
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

    model_cpu_offload_seq = "unet->vae"
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "class_labels", "prompt_embeds", "prompt_attention_mask"]

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
        names = class_names(id2label, unet.config.num_classes or 0)
        self.register_to_config(id2label=stored_names(names))
        self._ids: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(names):
            for part in name.split(","):
                self._ids[part.strip()].append(number)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._guidance_scale, self._interrupt, self._num_timesteps = 1.0, False, 0

    @property
    def labels(self) -> dict[str, int]:
        """Every class name, in alphabetical order, and its number (the first, where classes share a name)."""
        return {name: self._ids[name][0] for name in sorted(self._ids)}

    def get_label_ids(self, label: str | list[str]) -> list[int]:
        """The numbers of classes by their names.

        Raises:
            ValueError: for a name that no class has, with the nearest ones, or that several have, with their numbers.
        """
        return [self._label_id(name) for name in ([label] if isinstance(label, str) else label)]

    @property
    def vae_scale_factor(self) -> int:
        """Pixels a latent stands for, along each side."""
        config = self.vae.config
        ratio = getattr(self.vae, "spatial_compression_ratio", None)
        stages = config.get("block_out_channels") or config.get("encoder_block_out_channels") or (1,)
        return ratio or 2 ** (len(stages) - 1)

    @property
    def size_multiple(self) -> int:
        """Height and width of pictures must be multiples of this many pixels."""
        return self.vae_scale_factor * self.unet.size_multiple

    @property
    def default_size(self) -> int:
        """Side in pixels of the square pictures that the UNet was made for."""
        return self.unet.config.sample_size * self.vae_scale_factor

    @property
    def guidance_scale(self) -> float:
        """Guidance of the running (or last) call; a callback may change `_guidance_scale`."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the UNet also sees no class: guidance scales up to 1 do without it."""
        return self._guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        """UNet steps of the running (or last) call."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt = True` from a callback to stop after the running step."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        class_labels: ClassLabels | None = None,
        guidance_scale: float = 4.0,
        generator: Generators | None = None,
        num_inference_steps: int = 50,
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
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
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
            num_inference_steps: steps of the scheduler, at least 1 (50: fact sheet, section 6, row 18).
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
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        watched = callback_on_step_end_tensor_inputs or ["latents"]
        height = self._side(latents, 2) if height is None else height
        width = self._side(latents, 3) if width is None else width
        self.check_inputs(
            class_labels, guidance_scale, generator, num_inference_steps, output_type, num_images_per_class, height,
            width, latents, prompt_embeds, prompt_attention_mask, negative_prompt_embeds,
            negative_prompt_attention_mask, watched,
        )  # fmt: skip
        self._guidance_scale, self._interrupt = float(guidance_scale), False

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
        self._num_timesteps = len(scheduler.timesteps)
        if latents is None:
            conditions = state["class_labels"] if embeds is None else embeds
            samples = len(conditions) // (2 if self.do_classifier_free_guidance else 1)
            shape = (self.unet.config.in_channels, height // self.vae_scale_factor, width // self.vae_scale_factor)
            latents = draw_noise(samples, shape, generator)
        latents = latents.to(self._execution_device, torch.float32)
        state["latents"] = latents * getattr(scheduler, "init_noise_sigma", 1.0)
        step_kwargs = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}

        with self.progress_bar(total=self._num_timesteps) as bar:
            for step, timestep in enumerate(scheduler.timesteps):
                prediction = self._predict(scheduler, timestep, **state)
                state["latents"] = scheduler.step(
                    prediction, timestep, state["latents"], return_dict=False, **step_kwargs
                )[0]
                if callback_on_step_end is not None:
                    tensors = {name: state[name] for name in watched}
                    changed = callback_on_step_end(self, step, timestep, tensors) or {}
                    state.update({name: changed[name] for name in state.keys() & changed.keys()})
                bar.update()
                if self.interrupt:
                    break

        images = self._decode(state["latents"], output_type)
        self.maybe_free_model_hooks()
        return ImageOutput(images=images) if return_dict else (images,)

    def _side(self, latents: Tensor | None, axis: int) -> int:
        given = latents is not None and latents.ndim == 4
        return latents.shape[axis] * self.vae_scale_factor if given else self.default_size

    def _classes(self, labels: ClassLabels | None, copies: int) -> Int[Tensor, " rows"] | None:
        """Numbers for the UNet's batch: with guidance first as many that mean no class."""
        if labels is None:
            return None
        numbers = torch.tensor(self._class_ids(labels), device=self._execution_device).repeat_interleave(copies)
        null = torch.full_like(numbers, self.unet.config.num_classes)
        return torch.cat([null, numbers]) if self.do_classifier_free_guidance else numbers

    def _text(self, copies: int, given: Features, negative: Features) -> Features:
        """Features for the UNet's batch: with guidance the negative prompts first, padded to one length."""
        if given[0] is None:
            return None, None
        parts = [negative, given] if self.do_classifier_free_guidance else [given]
        tokens = max(embeds.shape[1] for embeds, _ in parts)
        padded = [self._padded(*part, tokens, copies) for part in parts]
        return torch.cat([embeds for embeds, _ in padded]), torch.cat([mask for _, mask in padded])

    def _padded(self, embeds: Tensor, mask: Tensor | None, tokens: int, copies: int) -> tuple[Tensor, Tensor]:
        device, missing = self._execution_device, tokens - embeds.shape[1]
        mask = torch.ones(embeds.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
        embeds = F.pad(embeds.to(device, self.unet.dtype), (0, 0, 0, missing))
        return embeds.repeat_interleave(copies, dim=0), F.pad(mask.to(device), (0, missing)).repeat_interleave(
            copies, 0
        )

    def _predict(
        self,
        scheduler: SchedulerMixin,
        timestep: Tensor,
        latents: Tensor,
        class_labels: Tensor | None,
        prompt_embeds: Tensor | None,
        prompt_attention_mask: Tensor | None,
    ) -> Tensor:
        guided = self.do_classifier_free_guidance
        sample = torch.cat([latents, latents]) if guided else latents
        if hasattr(scheduler, "scale_model_input"):
            sample = scheduler.scale_model_input(sample, timestep)
        conditions = {
            "class_labels": class_labels,
            "encoder_hidden_states": prompt_embeds,
            "encoder_attention_mask": prompt_attention_mask,
        }
        rows = slice(-len(sample), None)  # a callback may have switched guidance off
        prediction = self.unet(
            sample.to(self.unet.dtype),
            timestep.expand(len(sample)),
            **{name: None if value is None else value[rows] for name, value in conditions.items()},
            return_dict=False,
        )[0].float()
        if not guided:
            return prediction
        negative, positive = prediction.chunk(2)
        return negative + self.guidance_scale * (positive - negative)

    def _decode(self, latents: Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return latents
        latents = unscale_latents(latents, self.vae.config)
        pictures = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0]
        return self.image_processor.postprocess(pictures.float(), output_type=output_type)

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
        if latents is not None:
            grid = (height // self.vae_scale_factor, width // self.vae_scale_factor)
            wanted = (samples * num_images_per_class, self.unet.config.in_channels, *grid)
            if tuple(latents.shape) != wanted:
                raise ValueError(f"latents must be {list(wanted)}, not {list(latents.shape)}.")

    def _present_tensors(self) -> list[str]:
        config = self.unet.config
        absent = {"class_labels"} if not config.num_classes else set()
        absent |= {"prompt_embeds", "prompt_attention_mask"} if not config.cross_attention_dim else set()
        return [name for name in self._callback_tensor_inputs if name not in absent]

    def _check_conditions(self, labels: ClassLabels | None, given: Features, negative: Features, guided: bool) -> int:
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
            _check_embeds(name, embeds, mask, text_width)
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


def _check_embeds(name: str, embeds: Tensor | None, mask: Tensor | None, width: int | None) -> None:
    if embeds is None:
        if mask is not None:
            raise ValueError(f"{name}_attention_mask needs {name}_embeds.")
        return
    if embeds.ndim != 3 or embeds.shape[2] != width or 0 in embeds.shape:
        raise ValueError(f"{name}_embeds must be [prompts, tokens, {width}], not {list(embeds.shape)}.")
    if mask is not None and mask.shape != embeds.shape[:2]:
        raise ValueError(f"{name}_attention_mask must be {list(embeds.shape[:2])}, not {list(mask.shape)}.")
