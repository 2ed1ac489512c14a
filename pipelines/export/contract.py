"""What an exported pipeline promises: each component's tensors, the scheduler's constants and the loop between them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ..files import read_json

CONTRACT = "contract.json"
DIGESTS = "sha256"
"""Key of the inputs in `run.json` under which the sha256 of the contract and of each part stand by their names."""
FORMAT = "pocket-diffusers export contract 1"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a component.

    Attributes:
        name: as the exported file names it.
        shape: sizes, outermost first; a word stands for a size that may vary ("batch"), the same wherever it occurs.
        dtype: "float32" or "int32"; the same in every precision, whatever the weights inside are.
        low: smallest value that is meant, None where there is no bound.
        high: largest value that is meant, likewise.
        meaning: what the numbers are, in words.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    low: float | None
    high: float | None
    meaning: str


@dataclass(frozen=True)
class ComponentContract:
    """One network of a pipeline: `inputs` by position in, `outputs` by position out."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    purpose: str


@dataclass(frozen=True)
class PipelineContract:
    """Everything an app needs besides the files themselves.

    Attributes:
        slug: of the method.
        components: the networks, in the order in which a call runs them.
        scheduler: class and config of the scheduler, with the levels of a default run to compare with.
        loop: a call in pseudo-code, from the inputs of a user to the result.
        constants: numbers and switches that the loop names.
        parts: what else the bundle holds, folder -> (library, class): tokenizers and the scheduler.
        configs: of the pipeline ("pipeline") and its networks, as `load_bundle` needs them.
    """

    slug: str
    components: tuple[ComponentContract, ...]
    scheduler: dict[str, Any]
    loop: str
    constants: dict[str, Any]
    parts: dict[str, tuple[str, str]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def component(self, name: str) -> ComponentContract:
        """The component of that name.

        Raises:
            ValueError: for another name.
        """
        found = {component.name: component for component in self.components}
        if name not in found:
            raise ValueError(f"component must be one of {', '.join(found)}, not {name!r}.")
        return found[name]

    def to_record(self) -> dict[str, Any]:
        """The contract as JSON takes it; `from_record` makes it again."""
        return {"format": FORMAT, **json.loads(json.dumps(asdict(self)))}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Reads what `to_record` wrote.

        Raises:
            ValueError: when the record is of another format or lacks something.
        """
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            found = record.get("format") if isinstance(record, dict) else None
            raise ValueError(f"a contract must have the format {FORMAT!r}, not {found!r}.")
        fields = {key: value for key, value in record.items() if key != "format"}
        try:
            components = tuple(
                ComponentContract(
                    component["name"],
                    tuple(_tensor(tensor) for tensor in component["inputs"]),
                    tuple(_tensor(tensor) for tensor in component["outputs"]),
                    component["purpose"],
                )
                for component in fields.pop("components")
            )
            parts = {name: (library, kind) for name, (library, kind) in fields.pop("parts").items()}
            return cls(components=components, parts=parts, **fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"the contract is damaged: {error!r}.") from error


def read_contract(folder: Path) -> PipelineContract:
    """Reads the contract of a bundle.

    Raises:
        FileNotFoundError: when `folder` is no bundle.
        ValueError: when its contract is damaged.
    """
    path = Path(folder) / CONTRACT
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(folder)!r} is no export bundle: it has no {CONTRACT}. `pocket export` makes one."
        )
    try:
        return PipelineContract.from_record(read_json(path, dict))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _tensor(record: dict[str, Any]) -> TensorSpec:
    return TensorSpec(**{**record, "shape": tuple(record["shape"])})
