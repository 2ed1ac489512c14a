"""Optimum's view of a component: its axes, and dummy inputs within the ranges of the contract."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .contract import ComponentContract, TensorSpec

if TYPE_CHECKING:
    import torch
    from optimum.exporters.base import ExporterConfig

TASK = "feature-extraction"  # optimum wants one of its own words; nothing depends on it


def exporter_config(component: ComponentContract) -> "ExporterConfig":
    """Optimum's `ExporterConfig` of a component; its `generate_dummy_inputs(batch_size=..., seed=...)` draws inputs."""
    from optimum.exporters.base import ExporterConfig
    from optimum.utils import DummyInputGenerator, NormalizedConfig

    specs = {spec.name: spec for spec in component.inputs}

    class ContractInputGenerator(DummyInputGenerator):
        """Draws a tensor of the contract: whole numbers or uniform within bounds, normal where there are none."""

        SUPPORTED_INPUT_NAMES = tuple(specs)

        def __init__(self, task: str, config: NormalizedConfig, batch_size: int = 2, seed: int = 0, **_: object):
            import torch

            self.batch_size, self.generator = batch_size, torch.Generator().manual_seed(seed)

        def supports_input(self, input_name: str) -> bool:
            return input_name in specs

        def generate(self, input_name: str, framework: str = "pt", int_dtype: str = "int32", float_dtype: str = "fp32"):
            return _draw(specs[input_name], self.batch_size, self.generator)

    class ComponentExporterConfig(ExporterConfig):
        NORMALIZED_CONFIG_CLASS = NormalizedConfig
        DUMMY_INPUT_GENERATOR_CLASSES = (ContractInputGenerator,)

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return {spec.name: dynamic_axes(spec) for spec in component.inputs}

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return {spec.name: dynamic_axes(spec) for spec in component.outputs}

    return ComponentExporterConfig({}, task=TASK, int_dtype="int32")


def dummy_inputs(component: ComponentContract, batch: int = 2, seed: int = 0) -> tuple["torch.Tensor", ...]:
    """Inputs by position, drawn within the ranges of the contract."""
    drawn: Mapping[str, torch.Tensor] = exporter_config(component).generate_dummy_inputs(batch_size=batch, seed=seed)
    return tuple(drawn[spec.name] for spec in component.inputs)


def dynamic_axes(spec: TensorSpec) -> dict[int, str]:
    """Axes that may vary: position -> word."""
    return {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)}


def _draw(spec: TensorSpec, batch: int, generator: "torch.Generator") -> "torch.Tensor":
    import torch

    shape = tuple(batch if isinstance(size, str) else size for size in spec.shape)
    if spec.dtype == "int32":
        return torch.randint(int(spec.low), int(spec.high) + 1, shape, generator=generator, dtype=torch.int32)
    if spec.low is None or spec.high is None:
        return torch.randn(shape, generator=generator)
    return spec.low + (spec.high - spec.low) * torch.rand(shape, generator=generator)
