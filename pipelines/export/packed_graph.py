"""An ONNX graph without its network's weights, for a place that has them in a packed file and decodes them there."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...hub_models.layers.low_bit import LowBitLayer
from ...hub_models.layers.time_embedding_cache import TimeEmbeddingCache


def take_weights_out(source: Path, network: nn.Module, target: Path, data: str) -> dict[str, Any]:
    """Writes a graph whose weights are external data, and says what of the network's packed file that data is.

    Tensors are recognised by their numbers, so that it does not matter what an exporter has named or transposed.

    Args:
        source: the graph with weights, exported in float32.
        network: with packed weights, float32 elsewhere.
        target: the graph to write.
        data: name under which a runtime is given the external data.

    Returns:
        The layout, as JSON takes it: `data`, its `bytes`, and `tensors`. Each of these has an `offset` and a `length`
        in bytes and is either a low-bit layer, with `name`, `bits`, `shape` and whether it is `transposed`, or another
        tensor of the file, with `name` and whether it stays `half` a float32.

    Raises:
        ValueError: the graph lacks packed weights of the network.
    """
    import onnx

    model, known = onnx.load(source), _known_tensors(network)
    tensors, met, offset = [], set(), 0
    for initializer in model.graph.initializer:
        values = onnx.numpy_helper.to_array(initializer)
        digest = _digest(values)
        if digest not in known:
            continue  # a constant of the graph itself, such as a size
        onnx.external_data_helper.set_external_data(initializer, data, offset, values.nbytes)
        initializer.ClearField("raw_data")
        initializer.ClearField("float_data")
        tensors.append({**known[digest], "offset": offset, "length": values.nbytes})
        met.add(known[digest]["name"])
        offset += values.nbytes
    lacking = [entry["name"] for entry in known.values() if "bits" in entry and entry["name"] not in met]
    if lacking:
        raise ValueError(f"{source.name} must be of the packed weights, but those of {lacking[0]} are not in it.")
    target.write_bytes(model.SerializeToString())
    return {"data": data, "bytes": offset, "tensors": tensors}


@torch.no_grad()
def _known_tensors(network: nn.Module) -> dict[bytes, dict[str, Any]]:
    """What each run of numbers is in the packed file, by its digest."""
    known: dict[bytes, dict[str, Any]] = {}

    def add(values: Tensor, **entry: Any) -> None:
        known.setdefault(_digest(values.numpy()), entry)

    for name, parameter in network.named_parameters():
        add(parameter, name=name, half=False)
    for name, module in network.named_modules():
        if isinstance(module, TimeEmbeddingCache):
            add(module.projections, name=f"{name}.projections", half=True)
        elif isinstance(module, LowBitLayer) and module.levels is not None:
            weight = module.rounded_weight()
            layer = {"name": name, "bits": module.levels.bits, "shape": list(weight.shape)}
            add(weight, **layer, transposed=False)
            if weight.ndim == 2:
                add(weight.T.contiguous(), **layer, transposed=True)
    return known


def _digest(values: np.ndarray) -> bytes:
    return sha256(values.dtype.str.encode() + values.tobytes()).digest()
