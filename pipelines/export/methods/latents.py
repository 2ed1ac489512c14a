"""How a pipeline that denoises latents under guidance is exported: its UNet, its decoder and the loop between them."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import nn

from ..contract import ComponentContract, PipelineContract, TensorSpec
from ..explicit_twin import cached_timesteps, decoded_twin, explicit_twin
from ..samplers import Sampler
from ..samplers.flow_match_euler import FlowMatchEuler
from ..stand_ins import Decoder, DecoderStandIn, Denoiser, DenoiserStandIn, Runner, decoder_config
from . import Export

REHEARSAL_STEPS = 4

LOOP = """\
{encoding}latents = normal noise [n, {latents}], float32, one seed a picture
{schedule}for i in 0 .. steps - 1:
    t = {time}
    if guidance_scale > 1:
        both = unet([latents, latents], [t, t, ...], {guided})
        {prediction} = both[first half] + guidance_scale * (both[second half] - both[first half])
    else:
        {prediction} = unet(latents, [t, ...], {plain})
{step}picture = vae_decoder(latents)
pixels = round(255 * clamp(picture / 2 + 0.5, 0, 1))
"""


class ExportConditions(ABC):
    """What a UNet is asked for, such as classes or texts; the defaults are of conditions without encoders."""

    latents_meaning = "noisy latents of this step, about unit variance"

    @abstractmethod
    def check(self, pipeline: DiffusionPipeline) -> None:
        """Refuses a pipeline with other conditions.

        Raises:
            ValueError: with the reason.
        """

    @abstractmethod
    def inputs(self, pipeline: DiffusionPipeline) -> tuple[TensorSpec, ...]:
        """One or two inputs of the UNet behind latents and timestep, by the UNet's own names for them."""

    @abstractmethod
    def calls(self, pipeline: DiffusionPipeline) -> tuple[str, str]:
        """Those inputs in the loop's text: with guidance (what is steered away from comes first), and without."""

    @abstractmethod
    def constants(self, pipeline: DiffusionPipeline) -> dict[str, Any]:
        """Constants of the contract behind those that all latent pipelines have."""

    @abstractmethod
    def configs(self, pipeline: DiffusionPipeline) -> dict[str, dict[str, Any]]:
        """Of "pipeline", "unet" and each encoder, as `assemble` needs them."""

    @abstractmethod
    def example(self, pipeline: DiffusionPipeline, sample: int) -> Any:
        """A typical first argument of a call, to rehearse with; the same number always gives the same one."""

    def encoders(self, pipeline: DiffusionPipeline) -> dict[ComponentContract, nn.Module]:
        """Networks that run before the UNet."""
        return {}

    def encoding(self, pipeline: DiffusionPipeline) -> str:
        """Lines of the loop's text that make the conditions of a user's input, each with its end."""
        return ""

    def parts(self, pipeline: DiffusionPipeline) -> dict[str, tuple[str, str]]:
        """What a bundle holds beside the scheduler, such as tokenizers: folder -> (library, class)."""
        return {}

    def components(
        self, contract: PipelineContract, runners: Mapping[str, Runner], parts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Arguments of the pipeline's class that stand for encoders and parts."""
        return {}

    def dynamic_shift(self, pipeline: DiffusionPipeline) -> float | None:
        """What shifts the scheduler's noise levels with the size of the picture; None where nothing does."""
        return None


@dataclass(frozen=True)
class LatentExport(Export):
    """Export of a pipeline with `LatentSamplingMixin`.

    Attributes:
        slug: of the method.
        kind: the pipeline's class, made of unet, vae, scheduler and what `conditions` add.
        conditions: what its UNet is asked for.
        sampler: the kind of scheduler that its weights are made for.
    """

    slug: str
    kind: type[DiffusionPipeline]
    conditions: ExportConditions
    sampler: Sampler = FlowMatchEuler()
    network = "unet"
    command = "generate {slug} --runtime {back_end} --model THIS_FOLDER"

    def contract(self, pipeline: DiffusionPipeline) -> PipelineContract:
        """As `Export.contract`: encoders, UNet and decoder."""
        asked, sampler, defaults = self.conditions, self.sampler, pipeline.defaults
        asked.check(pipeline)
        sampler.check(pipeline.scheduler)
        side, latents = pipeline.default_size, _latent_shape(pipeline)
        encoding, (guided, plain) = asked.encoding(pipeline), asked.calls(pipeline)
        known = cached_timesteps(pipeline.unet)
        cached = {} if known is None else {"cached_timesteps": known}
        configs, mu = asked.configs(pipeline), asked.dynamic_shift(pipeline)
        return PipelineContract(
            slug=self.slug,
            components=(*asked.encoders(pipeline), self._unet(pipeline), _decoder(pipeline)),
            scheduler=sampler.record(pipeline.scheduler, defaults.num_inference_steps, mu),
            loop=LOOP.format(
                encoding=encoding,
                latents=", ".join(map(str, latents)),
                guided=guided,
                plain=plain,
                schedule=sampler.schedule,
                time=sampler.time,
                prediction=sampler.prediction,
                step=sampler.step,
            ),
            constants={
                "height": side,
                "width": side,
                "latents": list(latents),
                "pixels_a_latent": pipeline.vae_scale_factor,
                "num_inference_steps": defaults.num_inference_steps,
                "guidance_scale": defaults.guidance_scale,
                "num_train_timesteps": pipeline.scheduler.config.num_train_timesteps,
                **asked.constants(pipeline),
                **cached,
            },
            parts={"scheduler": ("diffusers", type(pipeline.scheduler).__name__), **asked.parts(pipeline)},
            configs={
                "pipeline": configs.pop("pipeline"),
                "unet": {**configs.pop("unet"), **cached},
                "vae": decoder_config(latents[0], pipeline.vae_scale_factor),
                **configs,
            },
        )

    def modules(self, pipeline: DiffusionPipeline) -> dict[str, nn.Module]:
        """As `Export.modules`."""
        found = {component.name: network for component, network in self.conditions.encoders(pipeline).items()}
        found |= {"unet": Denoiser(explicit_twin(pipeline.unet)), "vae_decoder": Decoder(decoded_twin(pipeline.vae))}
        return {name: module.eval() for name, module in found.items()}

    def assemble(
        self, contract: PipelineContract, runners: Mapping[str, Runner], parts: Mapping[str, Any]
    ) -> DiffusionPipeline:
        """As `Export.assemble`."""
        configs = contract.configs
        return self.kind(
            unet=DenoiserStandIn(runners["unet"], configs["unet"], contract.component("unet")),
            vae=DecoderStandIn(runners["vae_decoder"], configs["vae"]),
            scheduler=parts["scheduler"],
            **self.conditions.components(contract, runners, parts),
            **configs["pipeline"],
        )

    def scheduler_note(self, record: dict[str, Any]) -> str:
        """As `Export.scheduler_note`."""
        return self.sampler.note(record)

    def rehearse(self, pipeline: DiffusionPipeline, samples: range) -> np.ndarray:
        """Pictures [n, height, width, 3] in [0, 1] of the conditions' examples, with guidance."""
        examples = [self.conditions.example(pipeline, sample) for sample in samples]
        generators = [torch.Generator().manual_seed(sample) for sample in samples]
        steps = _rehearsal_steps(pipeline)
        return pipeline(examples, generator=generators, num_inference_steps=steps, output_type="np").images

    def _unet(self, pipeline: DiffusionPipeline) -> ComponentContract:
        sampler, shape, known = self.sampler, ("batch", *_latent_shape(pipeline)), cached_timesteps(pipeline.unet)
        timestep = sampler.timestep
        if known is not None:
            timestep = replace(timestep, meaning=f"{timestep.meaning}; one of the {len(known)} of cached_timesteps")
        inputs = (
            TensorSpec("latents", shape, "float32", None, None, self.conditions.latents_meaning),
            timestep,
            *self.conditions.inputs(pipeline),
        )
        return ComponentContract("unet", inputs, (replace(sampler.predicted, shape=shape),), sampler.purpose)


def _rehearsal_steps(pipeline: DiffusionPipeline) -> int:
    """The number of steps nearest to `REHEARSAL_STEPS` whose timesteps the UNet takes."""
    known = cached_timesteps(pipeline.unet)
    if known is None:
        return REHEARSAL_STEPS
    scheduler = copy.deepcopy(pipeline.scheduler)
    for steps in sorted(range(1, len(known) + 1), key=lambda steps: abs(steps - REHEARSAL_STEPS)):
        scheduler.set_timesteps(steps)
        if set(scheduler.timesteps.tolist()) <= set(known):
            return steps
    raise ValueError(
        f"the UNet's {len(known)} cached timesteps must be some of the scheduler's for some number of steps, "
        "which they are not."
    )


def _latent_shape(pipeline: DiffusionPipeline) -> tuple[int, int, int]:
    side = pipeline.unet.config.sample_size
    return pipeline.unet.config.in_channels, side, side


def _decoder(pipeline: DiffusionPipeline) -> ComponentContract:
    channels, side = pipeline.vae.config.out_channels, pipeline.default_size
    meaning = "the latents as the last step left them; undoing their scale is inside"
    latents = TensorSpec("latents", ("batch", *_latent_shape(pipeline)), "float32", None, None, meaning)
    meaning = "red, green and blue about [-1, 1], not clamped; pixel = round(255 * clamp(x / 2 + 0.5, 0, 1))"
    picture = TensorSpec("picture", ("batch", channels, side, side), "float32", -1, 1, meaning)
    return ComponentContract("vae_decoder", (latents,), (picture,), "turns latents into a picture, once a picture")
