"""How a pipeline that looks at pictures is exported: one network, and drawings that it rehearses with."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from diffusers import DiffusionPipeline
from PIL import Image, ImageDraw
from torch import Tensor, nn

from ..contract import ComponentContract, PipelineContract, TensorSpec
from ..explicit_twin import explicit_twin
from ..stand_ins import Runner, StandIn
from . import Export


class ModelStandIn(StandIn):
    """In place of a classifier or a detector."""

    def __init__(self, run: Runner, config: dict[str, Any], outputs: tuple[str, ...]) -> None:
        super().__init__(run, config)
        self.outputs = outputs

    @property
    def size_multiple(self) -> int:
        return self.config["size_multiple"]

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        made = dict(zip(self.outputs, self.run(pixel_values), strict=True))
        return SimpleNamespace(logits=made.get("logits"), dense=made)


class RecognitionExport(Export):
    """Export of a pipeline whose one network is shown a picture.

    A method's own says which pipeline and network (see `Export`), what wraps the network, and writes the contract with
    `one_network`.
    """

    slug: str
    kind: type[DiffusionPipeline]
    wrapper: type[nn.Module]
    purpose: str
    """What the network does, in words."""
    settings: tuple[str, ...]
    """Of the pipeline's config, kept in the contract's."""

    def modules(self, pipeline: DiffusionPipeline) -> dict[str, nn.Module]:
        """As `Export.modules`."""
        return {self.network: self.wrapper(explicit_twin(pipeline.model)).eval()}

    def assemble(
        self, contract: PipelineContract, runners: Mapping[str, Runner], parts: Mapping[str, Any]
    ) -> DiffusionPipeline:
        """As `Export.assemble`."""
        names = tuple(spec.name for spec in contract.component(self.network).outputs)
        model = ModelStandIn(runners[self.network], contract.configs["model"], names)
        return self.kind(model, **contract.configs["pipeline"])

    def one_network(
        self, pipeline: DiffusionPipeline, outputs: tuple[TensorSpec, ...], loop: str, constants: dict[str, Any]
    ) -> PipelineContract:
        """A contract of the network that makes `outputs`, told by `loop`."""
        size, model = pipeline.config.image_size, pipeline.model
        shape = ("batch", model.config.in_channels, size, size)
        pixels = TensorSpec("pixel_values", shape, "float32", -1, 1, "2 * picture - 1, the picture in [0, 1]")
        wanted = ("in_channels", "image_size", "num_classes", "dense_outputs")
        return PipelineContract(
            slug=self.slug,
            components=(ComponentContract(self.network, (pixels,), outputs, f"{self.purpose}, once a picture"),),
            scheduler={},
            loop=loop,
            constants={"image_size": size, **constants},
            configs={
                "pipeline": {key: pipeline.config[key] for key in self.settings},
                "model": {**{key: model.config[key] for key in wanted}, "size_multiple": model.size_multiple},
            },
        )


def drawing(index: int, size: int) -> Image.Image:
    """A few bright shapes and a digit on a shaded ground, to rehearse with: something to see for any recognizer.

    Args:
        index: from 0 up; the first two hundred differ.
        size: pixels a side.
    """
    y, x = np.mgrid[:size, :size] / size
    tone = index % 7
    ground = np.stack([60 + 17 * tone + 60 * y, 90 + 40 * x, 160 - 13 * tone - 40 * x * y], axis=2)
    picture = Image.fromarray(ground.astype(np.uint8))
    pen, unit = ImageDraw.Draw(picture), size / 8
    colors = [(230, 40, 40), (40, 200, 60), (50, 70, 230), (240, 220, 40), (150, 50, 200), (250, 250, 250)]
    for number in range(1 + index % 3):
        x, y = (1 + 2 * number) * unit, (1 + (index + 2 * number) % 5) * unit
        draw = pen.ellipse if (index + number) % 2 else pen.rectangle
        draw((x, y, x + 2 * unit, y + 2 * unit), fill=colors[(index + number) % len(colors)])
    pen.text((5 * unit, unit), str(index % 10), fill=(255, 255, 255), font_size=max(1, 5 * unit))
    return picture
