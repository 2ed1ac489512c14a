"""Parameters of which rows come and go while they are trained."""

import torch
from jaxtyping import Int
from torch import Tensor, nn


class GrowingModule(nn.Module):
    """A module some of whose tensors have one row a point; it loads weights with any number of points.

    Attributes:
        rows: names of those parameters and buffers.
    """

    rows: tuple[str, ...] = ()

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        saved = {name: state_dict[prefix + name] for name in self.rows if prefix + name in state_dict}
        if len({value.shape[:1] for value in saved.values()}) == 1:
            for name, value in saved.items():
                own = getattr(self, name)
                if value.ndim == own.ndim and value.shape[1:] == own.shape[1:]:
                    own.data = own.data.new_zeros(value.shape)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


@torch.no_grad()
def take_rows(
    module: nn.Module, rows: tuple[str, ...], index: Int[Tensor, " kept"], optimizer: torch.optim.Optimizer,
    fresh: Int[Tensor, " fresh"] | None = None,
) -> None:  # fmt: skip
    """Replaces the rows of parameters and buffers by those at `index`, in that order; an index may occur twice.

    Args:
        module: what they belong to.
        rows: names of the tensors.
        index: old row of each new one.
        optimizer: its running moments follow.
        fresh: new rows whose moments start at zero.
    """
    for name in rows:
        tensor = getattr(module, name)
        tensor.data = tensor.data[index].contiguous()
        if not isinstance(tensor, nn.Parameter):
            continue
        tensor.grad = None
        for key, value in optimizer.state.get(tensor, {}).items():
            if isinstance(value, Tensor) and value.ndim:
                moved = value[index].contiguous()
                if fresh is not None:
                    moved[fresh] = 0
                optimizer.state[tensor][key] = moved
