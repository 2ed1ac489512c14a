"""How each method is exported, found by the class of its pipeline; and what methods of one family share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from diffusers import DiffusionPipeline
from torch import nn

from .... import unknown_name
from ... import METHODS
from ..contract import PipelineContract
from ..stand_ins import Runner


class Export(ABC):
    """How pipelines of one class are exported: an entry of a method's `EXPORTS`."""

    network: str
    """The component that tells its contracts from those of the method's other pipelines; `network_0` and so on, where
    there are several of its kind."""
    command: str | None = None
    """Arguments of `pocket` that run a bundle THIS_FOLDER; None where no command does."""
    single: tuple[str, ...] = ()
    """Components that stay float32 in every precision."""
    calibrated = True
    """Whether int8 rounds what layers pass on, by ranges of a rehearsal; else it rounds weights alone."""

    @abstractmethod
    def contract(self, pipeline: DiffusionPipeline) -> PipelineContract:
        """The pipeline's contract at its default size, the same for every back end and precision.

        Raises:
            ValueError: when the pipeline cannot be exported, with the reason.
        """

    @abstractmethod
    def modules(self, pipeline: DiffusionPipeline) -> dict[str, nn.Module]:
        """The networks that the contract names, taking its tensors by position and sharing the pipeline's weights."""

    @abstractmethod
    def assemble(
        self, contract: PipelineContract, runners: Mapping[str, Runner], parts: Mapping[str, Any]
    ) -> DiffusionPipeline:
        """The method's own pipeline, its networks replaced by `runners`: functions of the contract's tensors."""

    def scheduler_note(self, record: dict[str, Any]) -> str:
        """What the README of a bundle says of its scheduler, of which the contract has a record."""
        return ""

    @abstractmethod
    def rehearse(self, pipeline: DiffusionPipeline, samples: range) -> np.ndarray:
        """What the pipeline makes of typical inputs with fixed seeds: the calls that calibration sees.

        Args:
            pipeline: what runs.
            samples: numbers of the inputs, from 0 up; each number has an input of its own, whatever the others are.

        Returns:
            The result, [n, ...].
        """


def method_exports(slug: str) -> dict[type[DiffusionPipeline], Export]:
    """The exports of a method: `EXPORTS` of `export_<slug>`, pipeline class -> its export.

    Raises:
        ValueError: for an unknown method, or one that has no such module.
    """
    if slug not in METHODS:
        raise unknown_name("method", slug, METHODS)
    name = f"{__name__}.export_{slug}"
    try:
        return import_module(name).EXPORTS
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ValueError(f"{slug} has no exports yet: pipelines/export/methods/export_{slug}.py is missing.") from error


def export_of(pipeline: DiffusionPipeline) -> Export:
    """The export of a pipeline, by its class or the nearest class that it inherits from.

    Raises:
        ValueError: for a pipeline of no method, or one that its method does not export.
    """
    for kind in type(pipeline).__mro__:
        target = f"{kind.__module__.rpartition('.')[2]}:{kind.__name__}"
        for slug, tasks in METHODS.items():
            if target in tasks.values() and kind in (exports := method_exports(slug)):
                return exports[kind]
    raise ValueError(f"{type(pipeline).__name__} has no export.")


def export_behind(contract: PipelineContract) -> Export:
    """The export that wrote a contract.

    Raises:
        ValueError: for an unknown method, or a contract that none of its exports writes.
    """
    names = {component.name for component in contract.components}
    for export in method_exports(contract.slug).values():
        if names & {export.network, f"{export.network}_0"}:
            return export
    raise ValueError(f"the contract is none of {contract.slug}'s: its components are {', '.join(sorted(names))}.")
