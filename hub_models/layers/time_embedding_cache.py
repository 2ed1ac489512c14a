"""A table in place of a UNet's time embedding and of its projections in every ResNet block (BitsFusion,
arXiv 2406.04333): F_{i,t} = r_i(e(t)) of chosen timesteps t, in half precision.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Self

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import SpatialNorm
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.normalization import AdaGroupNorm
from diffusers.models.resnet import ResnetBlock2D, ResnetBlockCondNorm2D
from jaxtyping import Float, Float16, Shaped
from torch import Tensor, nn

EMBEDDING, PROJECTION = "time_embedding", "time_emb_proj"
OTHER_CONDITIONS = ("add_embedding", "class_embedding", "time_embed_act", f"{EMBEDDING}.cond_proj")
OTHER_USES = (ResnetBlockCondNorm2D, AdaGroupNorm, SpatialNorm)
SHOWN = 3


class TimeEmbeddingCache(nn.Module):
    """In place of a UNet's `time_proj`: from timesteps to rows of a table, whatever the UNet's own precision.

    It stands there, and not in place of `time_embedding`, since timesteps are cast to the UNet's type between the two,
    which bfloat16 would not tell apart.

    Args:
        timesteps: of the rows.
        projections: the table.
    """

    def __init__(self, timesteps: Sequence[float], projections: Float16[Tensor, "timesteps all_widths"]) -> None:
        super().__init__()
        self.timesteps = list(timesteps)
        self._rows = {timestep: row for row, timestep in enumerate(self.timesteps)}
        self.register_buffer("projections", projections)

    def load_projections(self, projections: Tensor) -> None:
        """Takes a table as it came from a file.

        Raises:
            ValueError: another type or size, or numbers that are not finite.
        """
        shape = self.projections.shape
        if projections.dtype != torch.float16 or projections.shape != shape:
            found = f"{projections.dtype} of shape {tuple(projections.shape)}"
            raise ValueError(f"projections must be torch.float16 of shape {tuple(shape)}, not {found}.")
        self.projections = _finite(projections)

    def forward(self, timesteps: Shaped[Tensor, " batch"]) -> Float16[Tensor, "batch all_widths"]:
        wanted = timesteps.tolist()
        for timestep in wanted:
            if timestep not in self._rows:
                raise ValueError(
                    f"timestep must be one of the {self._told()}, not {timestep:g}: to have others, quantise the model "
                    "that this one was made of again, with as many --cache-steps as the scheduler is to take."
                )
        return self.projections[[self._rows[timestep] for timestep in wanted]]

    def _told(self) -> str:
        shown = [f"{timestep:g}" for timestep in self.timesteps]
        if len(shown) > 2 * SHOWN:
            shown[SHOWN:-SHOWN] = ["..."]
        return f"{len(self.timesteps)} that are cached ({', '.join(shown)})"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """The table keeps its type when a model is cast."""
        before = self.projections
        super()._apply(fn, recurse)
        if self.projections.dtype != before.dtype:
            self.projections = before.to(self.projections.device)
        return self

    def extra_repr(self) -> str:
        return self._told()


class CachedEmbedding(nn.Module):
    """In place of `time_embedding`: passes on the rows of the table."""

    def forward(
        self, rows: Float[Tensor, "batch all_widths"], condition: Tensor | None = None
    ) -> Float[Tensor, "batch all_widths"]:
        if condition is not None:
            raise ValueError("timestep_cond must be None where time embeddings are cached.")
        return rows


class CachedProjection(nn.Module):
    """In place of one block's `time_emb_proj`: the block's own columns of the rows.

    Args:
        start: the first of them.
        width: how many.
    """

    def __init__(self, start: int, width: int) -> None:
        super().__init__()
        self.start, self.width = start, width

    def forward(self, rows: Float[Tensor, "batch all_widths"]) -> Float[Tensor, "batch width"]:
        return rows.narrow(-1, self.start, self.width)

    def extra_repr(self) -> str:
        return f"start={self.start}, width={self.width}"


def replaced_layers(model: nn.Module) -> list[str]:
    """Names of the linear layers in whose place a cache stands.

    Raises:
        ValueError: the model is no UNet whose time embedding is of the timestep alone and goes to such layers only.
    """
    embedding = [f"{EMBEDDING}.linear_1", f"{EMBEDDING}.linear_2"]
    return embedding + [f"{name}.{PROJECTION}" for name in _blocks(model)]


def cached_widths(model: nn.Module) -> int:
    """Numbers in a row of the table; raises what `replaced_layers` does."""
    return sum(block.time_emb_proj.out_features for block in _blocks(model).values())


@torch.no_grad()
def compute_projections(
    model: nn.Module, timesteps: Sequence[float], module: Callable[[str], nn.Module] | None = None
) -> Float16[Tensor, "timesteps all_widths"]:
    """The table of a UNet, computed in float32.

    Args:
        model: whose weights may still be on the meta device where `module` has them.
        timesteps: of the rows.
        module: gives the time embedding and each projection by name, one at a time, in float32; the model's own where
            it is not given.

    Raises:
        ValueError: what `replaced_layers` raises, or a projection that half precision cannot hold.
    """
    blocks = _blocks(model)
    given = module or (lambda name: copy.deepcopy(model.get_submodule(name)).float())
    embedding = given(EMBEDDING)
    times = torch.tensor(timesteps, dtype=torch.float32, device=next(embedding.parameters()).device)
    embedded = embedding(model.time_proj(times))
    columns = []
    for name, block in blocks.items():
        activated = embedded if block.skip_time_act else block.nonlinearity(embedded)
        columns.append(given(f"{name}.{PROJECTION}")(activated).half())
    return _finite(torch.cat(columns, dim=1))


def put_cache(
    model: nn.Module, timesteps: Sequence[float], projections: Float16[Tensor, "timesteps all_widths"] | None = None
) -> None:
    """Puts a table in place of a UNet's layers; an empty one on the meta device where `projections` is still to come.

    Raises:
        ValueError: what `replaced_layers` raises.
    """
    blocks = _blocks(model)
    if projections is None:
        projections = torch.empty(len(timesteps), cached_widths(model), dtype=torch.float16, device="meta")
    model.time_proj = TimeEmbeddingCache(timesteps, projections)
    model.time_embedding = CachedEmbedding()
    start = 0
    for block in blocks.values():
        width = block.time_emb_proj.out_features
        block.time_emb_proj = CachedProjection(start, width)
        block.skip_time_act = True  # the table holds what comes after the activation
        start += width


def _blocks(model: nn.Module) -> dict[str, ResnetBlock2D]:
    """The blocks that project the time embedding, after checking that nothing else is made of it."""
    kind = type(model).__name__
    if not isinstance(model, UNet2DConditionModel | UNet2DModel):
        raise ValueError(f"time embeddings are cached of UNet2DConditionModel and UNet2DModel only, not of {kind}.")
    if not (isinstance(model.time_proj, Timesteps) and isinstance(model.time_embedding, TimestepEmbedding)):
        raise ValueError(f"time_proj of {kind} must be sinusoidal for a cache, not {type(model.time_proj).__name__}.")
    only = f"the time embedding of {kind} must depend on the timestep alone to be cached"
    for name in OTHER_CONDITIONS:
        owner, _, part = name.rpartition(".")
        if getattr(model.get_submodule(owner), part, None) is not None:
            raise ValueError(f"{only}, not on {name} too.")
    blocks = {}
    for name, module in model.named_modules():
        if isinstance(module, OTHER_USES):
            raise ValueError(f"the time embedding of {kind} must go to {PROJECTION} alone to be cached, not to {name}.")
        if isinstance(module, ResnetBlock2D) and module.time_emb_proj is not None:
            blocks[name] = module
    return blocks


def _finite(projections: Tensor) -> Tensor:
    odd = projections[~projections.isfinite()]
    if len(odd):
        raise ValueError(f"projections must be finite in half precision, not {float(odd[0])}.")
    return projections
