"""The only training loop: the step of `pipelines.fitting.loop` under accelerate."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, GradientAccumulationPlugin
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..pipelines.fitting.checkpoint import save_tensors
from ..pipelines.fitting.loop import Batches, Engine, FitSettings, Loop, Objective
from ..pipelines.fitting.run_folder import RunFolder
from ..pipelines.inputs import require
from .plot import import_figure, plot_losses


@dataclass(frozen=True, kw_only=True)
class TrainSettings(FitSettings):
    """`FitSettings`, and what accelerate adds.

    Attributes:
        mixed_precision: "no", or "bf16": weights stay float32 and the loss is computed under autocast.
        gradient_accumulation_steps: micro steps, each with an item of `batches`, per optimizer step; at least 1.
    """

    mixed_precision: Literal["no", "bf16"] = "no"
    gradient_accumulation_steps: int = 1

    def __post_init__(self):
        super().__post_init__()
        require(self.mixed_precision in ("no", "bf16"), "mixed_precision", self.mixed_precision, "'no' or 'bf16'")
        micro_steps = self.gradient_accumulation_steps
        require(micro_steps >= 1, "gradient_accumulation_steps", micro_steps, "at least 1")


class AccelerateEngine(Engine):
    """One process or many, on CPUs or GPUs, replicated or sharded (FSDP, DeepSpeed), as accelerate is configured."""

    def __init__(self, settings: TrainSettings):
        micro_steps = settings.gradient_accumulation_steps
        plugin = GradientAccumulationPlugin(micro_steps, sync_with_dataloader=False)
        self.accelerator = Accelerator(gradient_accumulation_plugin=plugin)
        self.mixed_precision, configured = settings.mixed_precision, self.accelerator.mixed_precision
        allowed = f"{configured!r}, which accelerate is configured for"
        require(configured in ("no", self.mixed_precision), "mixed_precision", self.mixed_precision, allowed)
        super().__init__(self.accelerator.device)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.accumulation = micro_steps
        self.sharded = self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        return self.accelerator.prepare(module, optimizer)

    def bare(self, prepared: nn.Module) -> nn.Module:
        return prepared if self.sharded else self.accelerator.unwrap_model(prepared)

    def release(self, prepared: nn.Module) -> None:
        if self.sharded:
            return
        module = self.accelerator.unwrap_model(prepared)
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
            module.__dict__.pop(name, None)

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision == "bf16")

    def accumulating(self, prepared: nn.Module) -> AbstractContextManager:
        return self.accelerator.accumulate(prepared)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def clip(self, prepared: nn.Module, max_norm: float) -> float:
        norm = self.accelerator.clip_grad_norm_(prepared.parameters(), max_norm)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        if self.world == 1:
            return values
        stacked = torch.tensor(list(values.values()), dtype=torch.float32, device=self.device)
        means = self.accelerator.reduce(stacked, reduction="mean").tolist()
        return dict(zip(values, means, strict=True))

    def anywhere(self, flag: bool) -> bool:
        return self.mean({"flag": float(flag)})["flag"] > 0

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def save(self, folder: Path) -> None:
        self.accelerator.save_state(str(folder / "accelerate"))

    def load(self, folder: Path) -> None:
        self.accelerator.load_state(str(folder / "accelerate"))


class TrainLoop(Loop):
    """A loop that draws its losses at every checkpoint, and gathers the weights of sharded parts at the end."""

    def _save(self) -> None:
        super()._save()
        if self.main:
            plot_losses(self.folder)

    def _finish(self) -> dict[str, nn.Module]:
        modules = super()._finish()
        if self.engine.sharded:
            for part, prepared in self.prepared.items():
                weights = self.engine.accelerator.get_state_dict(prepared)
                if self.main:
                    self.folder.write(self.folder.path / f"{part}.safetensors", partial(save_tensors, tensors=weights))
        return modules


def train(
    objective: Objective, batches: Batches, settings: TrainSettings, output: str | Path, resume: bool = True
) -> dict[str, nn.Module]:
    """Trains under accelerate: alone, or as one of the processes of `accelerate launch`.

    On CPUs, `accelerate launch --cpu` starts a single process unless it is told of MPI; several start with
    `ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 ...`.

    Args:
        objective: what is trained; its parts are moved to accelerate's device.
        batches: the data, see `pipelines.fitting.loop.Batches`.
        settings: how long and how.
        output: folder for checkpoints, metrics.jsonl, loss.png and previews.
        resume: continue from the newest checkpoint in `output`, if there is one.

    Returns:
        the parts, the same objects, in eval mode; with EMA weights if EMA is on. Parts that accelerate's configuration
        shards (FSDP, DeepSpeed) stay sharded; their whole weights are written to `<output>/<part>.safetensors`.

    Raises:
        ValueError: a damaged checkpoint, or one made with other settings; `resume` is False and there is one.
        OSError: `output` cannot be written to, or another run writes to it.
        FloatingPointError: a loss or gradient is not finite; names the step and the last good checkpoint.
        ImportError: matplotlib is missing.
    """
    import_figure()
    return TrainLoop(objective, batches, settings, RunFolder(output), AccelerateEngine(settings)).run(resume)
