"""`pocket export`: a pipeline in, a folder out that an app can run and check."""

import hashlib
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from ..files import digest_of, read_json, sha256, write_json
from ..library_chatter import quiet
from ..loading import find_model, load_pipeline
from ..result_folder import RECORD, installed_versions, result_folder, write_record
from .back_ends import ExportJob, artefact, back_end_module
from .bundle_note import bundle_note
from .contract import CONTRACT, DIGESTS, ComponentContract, PipelineContract
from .exporter_config import dummy_inputs
from .measurement import measure
from .methods import export_of, method_exports
from .parity import Parity, compare
from .rehearsal import Rows, as_tuple, rehearse

PARITY_BATCH = 3
"""Batch of the dummy inputs that parity is also compared on, where the back end takes any: not what tracing saw."""


def export_pipeline(
    slug: str,
    model: str | None = None,
    back_end: str = "onnx",
    precision: str = "fp32",
    output: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[str], Any] = lambda step: None,
) -> Path:
    """Exports every network of a pipeline, compares each with the original and writes down what it costs.

    The folder holds the components, a JSON beside each (bytes, sha256, graph hash, parity, latency, peak memory,
    versions), `contract.json`, `README.md` for an app developer, the tokenizers and the scheduler, and `run.json` with
    the sha256 of the contract and of these parts.
    It appears whole or not at all.

    Args:
        slug: a key of `METHODS`.
        model: a folder (your own fine-tuned one too), the name of weights that come with the package, or a Hub id;
            None takes `<slug>-nano`.
        back_end: "onnx", "executorch" or "coreml".
        precision: "fp32", "fp16" or "int8", where the back end has it; a few components are float32 in all of them,
            see `Export.single`.
        output: the folder; None takes `default_output`.
        overwrite: replace an earlier result there.
        progress: called with a few words before each step.

    Returns:
        The folder.

    Raises:
        ValueError: for an unknown method, back end or precision, an operator that the back end lacks, or a
            component that differs from the original by more than its precision allows (see `parity`).
        OSError: when the model cannot be read or the bundle not be written.
    """
    module = back_end_module(back_end, precision)
    method_exports(slug)  # refuses an unknown method before anything is loaded
    output = Path(output or default_output(slug, back_end, precision))
    with result_folder(output, overwrite) as folder:
        start = perf_counter()
        with quiet():
            for package in ("optimum", *module.PACKAGES):
                import_module(package)
        progress("loading")
        pipeline, source = load_pipeline(slug, model, on_cpu=True), model_digest(find_model(model or f"{slug}-nano"))
        export = export_of(pipeline)
        contract = export.contract(pipeline)
        _write_parts(pipeline, contract, folder)
        write_json(folder / CONTRACT, contract.to_record())
        networks = export.modules(pipeline)
        progress("rehearsing")
        calibrated = export.calibrated and precision in module.CALIBRATED
        rehearsed = rehearse(export, pipeline, contract, networks, calibrated)
        records = {}
        for component in contract.components:
            progress(f"exporting {component.name}")
            job = ExportJob(
                networks[component.name],
                component,
                "fp32" if component.name in export.single else precision,
                dummy_inputs(component),
                rehearsed[component.name].calibration,
            )
            module.export(job, artefact(folder, back_end, component.name))
            progress(f"checking {component.name}")
            records[component.name] = _check(folder, back_end, job, rehearsed[component.name].trials)
            write_json(folder / f"{component.name}.json", records[component.name])
        note = bundle_note(contract, back_end, precision, records)
        (folder / "README.md").write_text(note, encoding="utf-8")
        inputs = {"method": slug, "model": model or f"{slug}-nano", "to": back_end, "precision": precision}
        digests = {name: sha256(folder / name) for name in (CONTRACT, *contract.parts)}
        inputs |= {"source": source, DIGESTS: digests}
        write_record(folder, f"pocket export {slug}", inputs, None, perf_counter() - start)
    return output


def default_output(slug: str, back_end: str, precision: str) -> Path:
    """Where a bundle goes when nobody says where."""
    return Path("outputs") / f"export-{slug}-{back_end}-{precision}"


def model_digest(place: str | Path) -> str | None:
    """A sha256 over the weights and configs of a folder, to see whether an export is of today's; None for a Hub id."""
    if not Path(place).is_dir():
        return None
    return digest_of(Path(place), (path for path in Path(place).rglob("*") if path.suffix in (".safetensors", ".json")))


def source_of(bundle: Path) -> str | None:
    """The digest of the weights that a bundle was made from; None where there is no bundle."""
    try:
        return read_json(bundle / RECORD)["inputs"]["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def bytes_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def _write_parts(pipeline: DiffusionPipeline, contract: PipelineContract, folder: Path) -> None:
    for name in contract.parts:
        getattr(pipeline, name).save_pretrained(folder / name)


def _check(folder: Path, back_end: str, job: ExportJob, trials: Rows) -> dict[str, Any]:
    """The JSON of a component: reloaded, compared and measured."""
    module, component = back_end_module(back_end), job.component
    path = artefact(folder, back_end, component.name)
    parity, measured, reason = None, {}, module.can_run()
    if reason is None:
        parity = _parity(module, path, job, trials)
        if not parity.within_tolerance(job.precision):
            raise ValueError(
                f"{component.name} differs from the original by {parity.max_abs:.2g} (outputs up to "
                f"{parity.largest:.2g}) and {100 * parity.relative:.3g} %, more than the tolerance for "
                f"{job.precision}: the export is discarded."
            )
        measured = _measured(folder, back_end, component)
    return {
        "component": component.name,
        "file": path.name,
        "bytes": bytes_of(path),
        "sha256": sha256(path),
        "graph_sha256": hashlib.sha256(module.graph_text(path).encode()).hexdigest(),
        "back_end": back_end,
        "precision": job.precision,
        "batch": {"min": 1, "max": module.MAX_BATCH},
        "parity": None if parity is None else parity.to_record(),
        "not_run": reason,
        "latency_ms": None,
        "peak_memory_mb": None,
        **measured,
        "versions": installed_versions() | {name: version(name) for name in module.PACKAGES},
    }


def _parity(module: ModuleType, path: Path, job: ExportJob, trials: Rows) -> Parity:
    """On what a real run gave to the component, and for fp32 on dummy inputs of another batch too."""
    run = module.load(path, job.component)
    if job.precision == "fp32":
        trials = [*trials, dummy_inputs(job.component, module.MAX_BATCH or PARITY_BATCH, seed=1)]
    found, reference = [], []
    for trial in trials:
        with torch.no_grad():
            reference += [tensor.numpy() for tensor in as_tuple(job.module(*trial))]
        found += run(*(tensor.numpy() for tensor in trial))
    try:
        return compare(found, reference, len(job.component.outputs))
    except ValueError as error:
        raise ValueError(f"{job.component.name} does not work as {job.precision}: {error}") from error


def _measured(folder: Path, back_end: str, component: ComponentContract) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pocket-export-") as scratch:
        inputs = Path(scratch) / "inputs.npz"
        drawn = dummy_inputs(component, batch=1, seed=2)
        np.savez(inputs, **{spec.name: t.numpy() for spec, t in zip(component.inputs, drawn, strict=True)})
        return measure(folder.absolute(), back_end, component.name, inputs)
