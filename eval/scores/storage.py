"""What a model or a scene takes on disk: bytes, and bits for each parameter."""

from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...hub_models.rendering.gaussians import Gaussians
from ...hub_models.rendering.splat_files import write_splats
from ...pipelines.repository import read_shapes

WEIGHTS = (".safetensors", ".onnx", ".pte")
"""Endings of files that hold weights; so do all files inside a folder `*.mlpackage`."""


@dataclass(frozen=True)
class Storage:
    """What a repository or an exported bundle takes on disk.

    Attributes:
        bytes: of all files.
        weight_bytes: of the files that hold weights.
        parameters: numbers that these stand for; None where the files do not tell and nobody said.
        bits_per_parameter: 8 * weight_bytes / parameters, whatever else these files hold included.
        files: how many there are.
    """

    bytes: int
    weight_bytes: int
    parameters: int | None
    bits_per_parameter: float | None
    files: int

    def to_record(self) -> dict[str, Any]:
        """The storage as a JSON object."""
        return asdict(self)


def measure_storage(path: str | Path, parameters: int | None = None) -> Storage:
    """Add up a file, or a folder with all below it; what a link points to counts as if it stood there.

    Args:
        path: of a repository, an exported bundle or a single file.
        parameters: numbers that the weights stand for. If left out they are counted in the headers of safetensors
            files, which is right as long as each number is stored in an element of its own, and only where no other
            file holds weights.

    Raises:
        FileNotFoundError: there is nothing at `path`, or no file.
        ValueError: `parameters` is below 1, or a safetensors file is damaged.
    """
    path = Path(path)
    if parameters is not None and parameters < 1:
        raise ValueError(f"parameters must be at least 1, not {parameters}.")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        raise FileNotFoundError(f"there is no file at {str(path)!r}.")
    weights = [file for file in files if _holds_weights(file)]
    weight_bytes = sum(file.stat().st_size for file in weights)
    if parameters is None and weights and all(file.suffix == ".safetensors" for file in weights):
        parameters = sum(prod(shape) for file in weights for shape in read_shapes(file).values()) or None
    bits = None if parameters is None else 8 * weight_bytes / parameters
    return Storage(sum(file.stat().st_size for file in files), weight_bytes, parameters, bits, len(files))


def splat_bytes(gaussians: Gaussians, suffix: str) -> int:
    """Bytes of the file of splats whose name ends so."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"scene{suffix}"
        write_splats(gaussians, path)
        return path.stat().st_size


def _holds_weights(file: Path) -> bool:
    return file.suffix in WEIGHTS or any(part.endswith(".mlpackage") for part in file.parts)
