"""What a method brings to the contracts: its `tiny_<slug>.py` beside this file holds `PIPELINES` and `MODELS`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from pocket_diffusers.hub_models.rendering.cameras import intrinsics
from pocket_diffusers.pipelines.scene_cameras import Cameras

Rows = Sequence[tuple[dict[str, Any], str]]
"""Arguments that must be refused, each with a pattern of the one sentence that says so."""


@dataclass(frozen=True, kw_only=True)
class PipelineCase(ABC):
    """A pipeline of tiny real components.

    Attributes:
        make: a new pipeline, on which every input has an influence; it takes changes of its components and settings.
        argument: the argument of its call that says what is wanted; a list of values makes a batch.
        values: three of them, which give three different results.
        refused: what only this pipeline refuses to be called with.
        misfits: changes with which it cannot be made.
    """

    make: Callable[..., DiffusionPipeline]
    argument: str
    values: tuple[Any, Any, Any]
    refused: Rows = ()
    misfits: Rows = ()

    def call(self, pipeline: DiffusionPipeline, values: Sequence[Any] | None = None, **arguments: Any) -> Any:
        """The pipeline's output for these values, else for the first."""
        return pipeline(**{self.argument: list(values or self.values[:1]), **arguments})

    @abstractmethod
    def result(self, pipeline: DiffusionPipeline, values: Sequence[Any] | None = None, **arguments: Any) -> Tensor:
        """The output as numbers: float32, one row a sample."""

    def unrounded(self, pipeline: DiffusionPipeline) -> Tensor:
        """What number formats are compared by: the result, or scores where one is chosen by scores."""
        return self.result(pipeline)


@dataclass(frozen=True, kw_only=True)
class SamplerCase(PipelineCase):
    """A pipeline that makes samples out of noise under guidance, in two steps; sample i has seed i.

    Attributes:
        copies: the argument of its call for several samples of each value.
        watched: tensors that a callback may ask for, and how many rows each has for a sample; what the first is
            replaced by counts.
        short: further arguments that make a sample small.
    """

    copies: str
    watched: Mapping[str, int]
    short: Mapping[str, Any] = field(default_factory=dict)

    def call(self, pipeline: DiffusionPipeline, values: Sequence[Any] | None = None, **arguments: Any) -> Any:
        count = len(values or self.values[:1]) * arguments.get(self.copies, 1)
        options = {"num_inference_steps": 2, "generator": seeded(*range(count)), **self.short, **arguments}
        return super().call(pipeline, values, **options)

    @abstractmethod
    def numbers(self, output: Any) -> Tensor:
        """What somebody who asks for no output type gets, one row a sample, in units in which 0.01 is hardly seen."""


class ImageSamplerCase(SamplerCase):
    """A pipeline that draws pictures in a latent space."""

    def result(self, pipeline: DiffusionPipeline, values: Sequence[Any] | None = None, **arguments: Any) -> Tensor:
        return self.call(pipeline, values, output_type="latent", **arguments).images

    def numbers(self, output: Any) -> Tensor:
        return torch.stack([torch.from_numpy(np.asarray(image, np.float32)) / 255 for image in output.images])


class MotionCase(SamplerCase):
    """A pipeline that moves a body; all clips of a call that says no lengths are equally long."""

    def result(self, pipeline: DiffusionPipeline, values: Sequence[Any] | None = None, **arguments: Any) -> Tensor:
        return self.numbers(self.call(pipeline, values, **arguments))

    def numbers(self, output: Any) -> Tensor:
        return torch.stack(list(output.features))

    def unrounded(self, pipeline: DiffusionPipeline) -> Tensor:
        """Logits of the first step: a code that is chosen by a hair may be another in another format."""
        seen = []

        def look(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            seen.append(tensors["logits"])
            return {}

        self.call(pipeline, callback_on_step_end=look)
        return seen[0]


@dataclass(frozen=True, kw_only=True)
class RecognizerCase(PipelineCase):
    """A pipeline that looks at pictures.

    Attributes:
        numbers: (pipeline, pictures, **arguments) -> what its model says of each, one row a picture.
    """

    numbers: Callable[..., Tensor]
    argument: str = "images"

    def result(self, pipeline: DiffusionPipeline, values: Sequence[Any] | None = None, **arguments: Any) -> Tensor:
        return self.numbers(pipeline, list(values or self.values[:1]), **arguments)


@dataclass(frozen=True, kw_only=True)
class SceneCase(PipelineCase):
    """A pipeline that shows one scene; a value is the camera [4, 4] of one picture.

    Attributes:
        pixels: side of a picture.
        path: further arguments of a call without cameras that make its pictures 16 pixels tall and 24 wide.
    """

    pixels: int = 24
    path: Mapping[str, Any] = field(default_factory=dict)
    argument: str = "cameras"

    def call(self, pipeline: DiffusionPipeline, values: Sequence[Any] | None = None, **arguments: Any) -> Any:
        return pipeline(**{"cameras": self.cameras(values or self.values[:1]), **arguments})

    def result(self, pipeline: DiffusionPipeline, values: Sequence[Any] | None = None, **arguments: Any) -> Tensor:
        return self.call(pipeline, values, output_type="pt", **arguments).images

    def cameras(self, values: Sequence[Tensor]) -> Cameras:
        Ks = intrinsics(40.0, self.pixels, self.pixels).expand(len(values), 3, 3)
        return Cameras(torch.stack(list(values)), Ks, self.pixels, self.pixels)


@dataclass(frozen=True, kw_only=True)
class SplatCase(SceneCase):
    """A scene of splats, whose pictures have depths and lie over a background."""

    path: Mapping[str, Any] = field(default_factory=lambda: {"height": 16, "width": 24})


@dataclass(frozen=True, kw_only=True)
class ModelCase:
    """A model small enough for a test.

    Attributes:
        cls: its class.
        options: arguments of `__init__`.
        inputs: (model, samples) -> arguments of `outputs`, by name, each with one row a sample.
        outputs: (model, **inputs) -> everything it computes, each with one row a sample.
        presets: parameters of each preset.
        layouts: changes of `options` that make other networks.
        fill: puts numbers in place of the zeros that a new model begins with.
        refused_inputs: changes of `inputs` for two samples that `outputs` must refuse.
        refused_options: changes of `options` that `__init__` must refuse.
    """

    cls: type[nn.Module]
    options: Mapping[str, Any]
    inputs: Callable[[nn.Module, int], dict[str, Tensor]]
    outputs: Callable[..., list[Tensor]]
    presets: Mapping[str, int]
    layouts: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"defaults": {}})
    fill: Callable[[nn.Module], Any] = lambda model: None
    refused_inputs: Rows = ()
    refused_options: Rows = ()

    def make(self, **changes: Any) -> nn.Module:
        """The same weights each time, in evaluation mode."""
        torch.manual_seed(0)
        model = self.cls(**{**self.options, **changes})
        self.fill(model)
        return model.eval()

    def run(self, model: nn.Module, samples: int = 2) -> list[Tensor]:
        """Outputs for the same inputs each time."""
        return self.outputs(model, **self.inputs(model, samples))


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def noise_levels(record: Mapping[str, Any], steps: int) -> list[float]:
    """What a reader of an export's contract works out from its record of the scheduler."""
    rule = record["formula"].split(" with ")[0].partition("= ")[2]
    levels = []
    for i in range(steps):
        u = 1.0 if steps == 1 else 1 + (record["lowest"] - 1) * i / (steps - 1)
        levels.append(eval(rule, {"shift": record["shift"], "u": u}))
    return levels
