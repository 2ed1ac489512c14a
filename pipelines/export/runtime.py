"""Running a bundle: the method's own pipeline with exported components in place of its networks."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from ... import checkpoint
from ..files import read_json, sha256
from ..result_folder import RECORD
from .back_ends import BACK_ENDS, ArrayFunction, artefact, back_end_module
from .contract import DIGESTS, ComponentContract, PipelineContract, TensorSpec, read_contract
from .methods import export_behind

LIBRARIES = ("diffusers", "transformers")
"""Where tokenizers and schedulers of a bundle may come from: a bundle runs no code of its own."""


def load_bundle(folder: str | Path, runtime: str | None = None, slug: str | None = None) -> DiffusionPipeline:
    """Loads a bundle as a pipeline with the same call interface as the original; it runs on the CPU.

    Args:
        folder: what `export_pipeline` wrote.
        runtime: back end that is expected ("onnx", "executorch"); None takes the bundle's.
        slug: method that is expected; None takes the bundle's.

    Returns:
        The method's pipeline class. Height and width are those of the export.

    Raises:
        FileNotFoundError: when `folder` is no bundle, or lacks a file.
        ValueError: when it is damaged, a file is another than the one that was exported, it is of another back end, or
            it cannot run on this machine.
    """
    folder = Path(folder)
    if runtime is not None:
        back_end_module(runtime)
    contract = read_contract(folder)
    back_end = bundle_back_end(folder, contract)
    if slug is not None and slug != contract.slug:
        raise ValueError(f"{str(folder)!r} is an export of {contract.slug}, not of {slug}.")
    if runtime is not None and runtime != back_end:
        raise ValueError(f"{str(folder)!r} was exported to {back_end}, so it cannot run with --runtime {runtime}.")
    module = back_end_module(back_end)
    if reason := module.can_run():
        raise ValueError(f"{str(folder)!r} cannot run here: {reason}.")
    for path, digest in _recorded_digests(folder, back_end, contract).items():
        _check_digest(path, digest)
    runners = {component.name: _runner(folder, back_end, component) for component in contract.components}
    parts = {name: _load_part(folder / name, *target) for name, target in contract.parts.items()}
    pipeline = export_behind(contract).assemble(contract, runners, parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def own_bundle(slug: str, back_end: str) -> Path:
    """An export in fp32 of the weights that come with the package, made where `pocket export` puts it.

    It is made again when the package's weights are others than those it was made from.

    Raises:
        ValueError: for a method or back end that has no exports.
        OSError: when it cannot be written.
    """
    from .export_bundle import default_output, export_pipeline, model_digest, source_of

    folder = default_output(slug, back_end, "fp32")
    if source_of(folder) != model_digest(checkpoint(f"{slug}-nano")):
        export_pipeline(slug, None, back_end, "fp32", folder, overwrite=True)
    return folder


def bundle_back_end(folder: Path, contract: PipelineContract) -> str:
    """The back end that a bundle's files are of.

    Raises:
        FileNotFoundError: when a component is missing.
    """
    first = contract.components[0].name
    back_end = next((name for name in BACK_ENDS if artefact(folder, name, first).exists()), None)
    if back_end is None:
        raise FileNotFoundError(f"{str(folder)!r} lacks the file of its component {first!r}: export it again.")
    for component in contract.components:
        path = artefact(folder, back_end, component.name)
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing, though the contract names it: export the bundle again.")
    return back_end


def _recorded_digests(folder: Path, back_end: str, contract: PipelineContract) -> dict[Path, str | None]:
    """The sha256 that the export wrote down for each of its files and folders, in a JSON beside it or in `run.json`."""
    names = [component.name for component in contract.components]
    components = {artefact(folder, back_end, name): read_json(folder / f"{name}.json", dict) for name in names}
    inputs = read_json(folder / RECORD, dict).get("inputs") or {}
    parts = inputs.get(DIGESTS, {})  # earlier exports recorded their components alone
    digests = {path: record.get("sha256") for path, record in components.items()}
    return digests | {folder / name: digest for name, digest in parts.items()}


def _check_digest(path: Path, digest: str | None) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing, though the contract names it: export the bundle again.")
    if sha256(path) != digest:
        raise ValueError(f"{path} was changed or damaged after its export: its sha256 is not the recorded one.")


def _runner(folder: Path, back_end: str, component: ComponentContract) -> Callable[..., Sequence[Tensor]]:
    module, path = back_end_module(back_end), artefact(folder, back_end, component.name)
    try:
        run = module.load(path, component)
    except Exception as error:  # each runtime has exceptions of its own for a damaged file
        if isinstance(error, ImportError):
            raise
        raise ValueError(f"{path} cannot be loaded by {back_end}: {' '.join(str(error).split())[:300]}") from error
    lock = Lock()  # ExecuTorch writes the outputs of every call into one memory

    def alone(*tensors: Tensor) -> tuple[Tensor, ...]:
        with lock:
            return _in_batches(run, component, tensors, module.MAX_BATCH)

    return alone


def _in_batches(
    run: ArrayFunction, component: ComponentContract, tensors: Sequence[Tensor], most: int | None
) -> tuple[Tensor, ...]:
    """Runs a component on any batch, in pieces where its files take only so many at once."""
    for spec, tensor in zip(component.inputs, tensors, strict=True):
        _check_shape(component, spec, tensor)
    batch = len(tensors[0])
    pieces = []
    for start in range(0, batch, most or batch):
        piece = [np.ascontiguousarray(tensor[start : start + (most or batch)].numpy()) for tensor in tensors]
        pieces.append(run(*piece))
    return tuple(torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*pieces, strict=True))


def _check_shape(component: ComponentContract, spec: TensorSpec, tensor: Tensor) -> None:
    fits = len(spec.shape) == tensor.ndim and all(
        isinstance(wanted, str) or wanted == found for wanted, found in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, spec.shape))
        raise ValueError(
            f"{spec.name} of {component.name} must be [{wanted}], not {list(tensor.shape)}: an export has one size, so "
            "leave height and width out, or use the pipeline itself for others."
        )


def _load_part(folder: Path, library: str, name: str) -> Any:
    if library not in LIBRARIES or not name.isidentifier():
        raise ValueError(f"{folder} is {library}.{name}, but parts of a bundle come from {' or '.join(LIBRARIES)}.")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing, though the contract names it: export the bundle again.")
    return getattr(import_module(library), name).from_pretrained(str(folder))
