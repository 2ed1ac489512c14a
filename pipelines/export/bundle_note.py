"""The README of a bundle: what an app developer needs to call it, without reading our code."""

import json
from collections.abc import Mapping
from typing import Any

from .contract import ComponentContract, PipelineContract, TensorSpec
from .methods import export_behind

HOW_TO_LOAD = {
    "onnx": "Load each file with ONNX Runtime (Python, C++, Java, Swift, JavaScript), or any other runtime of ONNX.",
    "executorch": "Load each file with ExecuTorch (`Module` in C++, Java and Swift); it runs on CPUs through XNNPACK.",
    "coreml": "Add each package to an Xcode project, or load it with `MLModel`.",
}

NOTE = """# {slug}, exported to {back_end} ({precision})

{how_to_load} Numbers go in and out as float32 and int32 in every precision. Sizes in words may vary:
`batch` is the same wherever it occurs{limit}.

{python}## Files

| file | MB | differs from the original by | a call takes | peak memory |
|---|---|---|---|---|
{files}

Differences are the largest of any output, and relative to the output's norm. Times and memory are of batch 1 on one
thread of the machine that exported, in a process that holds the component and its runtime alone.

## Tensors

{tensors}

## The loop

```
{loop}```

| constant | value |
|---|---|
{constants}
{scheduler}"""

PYTHON = """The bundle also runs in Python: `pocket {command}`.

"""

SCHEDULER = """
## The scheduler

`{name}`; its settings stand in `scheduler/scheduler_config.json`.

{levels}
"""


def bundle_note(
    contract: PipelineContract, back_end: str, precision: str, records: Mapping[str, Mapping[str, Any]]
) -> str:
    """Text of the README: tensor by tensor, the loop in pseudo-code, the cost of each file.

    Args:
        contract: of the pipeline.
        back_end: of the bundle.
        precision: likewise.
        records: component name -> its JSON.
    """
    most = {record["batch"]["max"] for record in records.values()} - {None}
    return NOTE.format(
        slug=contract.slug,
        back_end=back_end,
        precision=precision,
        how_to_load=HOW_TO_LOAD[back_end],
        limit=_limit(min(most, default=None)),
        files="\n".join(_file_line(record) for record in records.values()),
        tensors="\n\n".join(_component(component) for component in contract.components),
        loop=contract.loop,
        constants="\n".join(f"| `{key}` | {json.dumps(value)} |" for key, value in contract.constants.items()),
        python=_python(contract, back_end),
        scheduler=_scheduler(contract),
    )


def _python(contract: PipelineContract, back_end: str) -> str:
    command = export_behind(contract).command
    return PYTHON.format(command=command.format(slug=contract.slug, back_end=back_end)) if command else ""


def _limit(most: int | None) -> str:
    if most is None:
        return ", from 1 up"
    return f", from 1 to {most}" if most > 1 else ", always 1 here: call a component once a sample"


def _file_line(record: Mapping[str, Any]) -> str:
    parity, latency, memory = record["parity"], record["latency_ms"], record["peak_memory_mb"]
    differs = f"not compared: {record['not_run']}" if parity is None else _difference(parity)
    time = "" if latency is None else f"{latency:.1f} ms"
    space = "" if memory is None else f"{memory:.0f} MB"
    return f"| `{record['file']}` | {record['bytes'] / 1e6:.2f} | {differs} | {time} | {space} |"


def _difference(parity: Mapping[str, float]) -> str:
    return f"{parity['max_abs']:.1g} ({100 * parity['relative']:.2g} %)"


def _component(component: ComponentContract) -> str:
    lines = [f"`{component.name}` {component.purpose}.", "", "| | name | shape | type | range | meaning |"]
    lines.append("|---|---|---|---|---|---|")
    lines += [_tensor("in", spec) for spec in component.inputs]
    lines += [_tensor("out", spec) for spec in component.outputs]
    return "\n".join(lines)


def _tensor(way: str, spec: TensorSpec) -> str:
    bounds = "any" if spec.low is None else f"{spec.low:g} to {spec.high:g}"
    shape = " x ".join(map(str, spec.shape))
    return f"| {way} | `{spec.name}` | {shape} | {spec.dtype} | {bounds} | {spec.meaning} |"


def _scheduler(contract: PipelineContract) -> str:
    """Nothing for a pipeline that looks at pictures."""
    record = contract.scheduler
    if not record:
        return ""
    levels = export_behind(contract).scheduler_note(record) if "example" in record else ""
    return SCHEDULER.format(name=record["class"], levels=levels)
