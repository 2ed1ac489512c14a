"""Time and memory of one exported component, measured in a process of its own.

    python -m pocket_diffusers.pipelines.export.measurement BUNDLE BACK_END COMPONENT INPUTS.npz

prints one line of JSON. The process holds the runtime and the component, nothing else.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from .back_ends import artefact, back_end_module
from .contract import read_contract

THREADS = 1
REPEATS = 5
TIMEOUT = 600
"""Seconds after which a component counts as stuck."""


def measure(folder: Path, back_end: str, component: str, inputs: Path) -> dict[str, Any]:
    """Runs a component of a bundle in a new process.

    Args:
        folder: the bundle; its contract and the component must be there.
        back_end: of the bundle.
        component: its name.
        inputs: an .npz of inputs of batch 1, by the names of the contract.

    Returns:
        latency_ms (median), peak_memory_mb of the process, runtime_memory_mb of it before the component was loaded
        (both null where the system does not tell), threads and repeats.

    Raises:
        OSError: when the process fails, with what it said.
    """
    command = [sys.executable, "-m", __name__, str(folder), back_end, component, str(inputs)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise OSError(f"{component} could not be measured in a process of its own: {reason}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def main(folder: str, back_end: str, component: str, inputs: str) -> None:
    """What the new process does."""
    import numpy as np

    contract = read_contract(Path(folder)).component(component)
    with np.load(inputs, allow_pickle=False) as stored:
        arrays = [stored[spec.name] for spec in contract.inputs]
    module = back_end_module(back_end)
    module.prepare()
    before = _peak_memory_mb()
    run = module.load(artefact(Path(folder), back_end, component), contract, THREADS)
    run(*arrays)  # the first call also lays out memory
    seconds = []
    for _ in range(REPEATS):
        start = perf_counter()
        run(*arrays)
        seconds.append(perf_counter() - start)
    found = {
        "latency_ms": round(1000 * statistics.median(seconds), 3),
        "peak_memory_mb": _peak_memory_mb(),
        "runtime_memory_mb": before,
        "threads": THREADS,
        "repeats": REPEATS,
    }
    print(json.dumps(found))


def _peak_memory_mb() -> float | None:
    """Of this process; `getrusage` would count the parent's too, so only Linux tells."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
