"""The step loop: an `Objective`, driven by `fit` (plain torch, one scene) or by `training.loop.train` (accelerate).

A step is a function of the weights, the optimizer's state and the number of the step, and of nothing else: data come
from `batches(step, ...)`, noise from a generator made of (seed, step, part, micro step, rank), the learning rate from
`rate_factor(step)`. So a checkpoint needs no loader, generator or scheduler, and a killed run continues bit for bit.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL.Image import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from ..inputs import require
from .checkpoint import load_tree, save_tensors, save_tree
from .moving_average import MovingAverage
from .progress import RunProgress
from .run_folder import RunFolder
from .stop_signals import StopSignals

Batches = Callable[[int, int, int], Iterator]
"""`batches(start_step, rank, world)` yields what `Objective.loss` takes, without end: one item per micro step, from the
first micro step of optimizer step `start_step` (counted from 0) on. Item for item it equals `batches(0, rank, world)`
with the earlier items left out: that makes a resumed run exact."""


class Objective(Protocol):
    """What is trained, and toward what.

    Attributes:
        parts: the trainable modules, updated in this order at every step (one: usual; two: a GAN). `loss` takes them
            from this dictionary and calls them (`self.parts["unet"](...)`, no other method): under accelerate it
            holds the wrapped module of the part that is updated. The parameters of the other parts are frozen
            meanwhile; gradients flow through them only.
    """

    parts: dict[str, nn.Module]

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        """A fresh optimizer of `parts[part]`; its learning rates are the peaks of the schedule."""

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The scalar loss of `part` on a (micro-)batch, and further numbers to log, under the same names every time.

        `generator` lives on the CPU. Torch's global generators are seeded too, so dropout repeats as well.
        """

    # An objective that changes weights between steps, and may change how many rows they have, also has
    # `after_step(part: str, step: int, optimizer: torch.optim.Optimizer) -> None`, called after optimizer step `step`
    # (from 0). It keeps the same Parameter objects, and its modules load weights with any number of rows.

    def preview(self, modules: dict[str, nn.Module]) -> Image | None:
        """A picture of what `modules` (the parts in eval mode, with EMA weights if EMA is on) can do; None for none."""


def may_change(default: Any) -> Any:
    return field(default=default, metadata={"may_change": True})


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How long and how to train. A run may be resumed with other values of those marked *.

    Attributes:
        steps: optimizer steps in all, at least 1. * if the schedule is constant.
        seed: of every random number of the run, at least 0.
        schedule: of the learning rates after the warm-up: "constant", or "cosine" down to zero at `steps`.
        warmup_steps: length of the linear warm-up, in 0..steps.
        max_grad_norm: the gradient of a part is scaled down to this 2-norm; None leaves it.
        ema_decay: limit of the decay of the moving average of the weights, between 0 and 1; None for no average.
        save_every: * steps between checkpoints, at least 1; the last step is saved in any case.
        log_every: * steps between lines of metrics, at least 1; a line holds means since the line before.
        preview_every: * steps between previews; 0 for none.
        keep_checkpoints: * the newest so many stay, at least 1.
        compile: * compile the parts' forward pass with torch.compile; state-dict keys do not change.
        channels_last: * lay 4-D weights out channels-last, which doubles the speed of convolutions on a CPU.
        identity: whatever else decides the result (batch size, data, preset), as JSON holds it.
    """

    steps: int
    seed: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    max_grad_norm: float | None = 1.0
    ema_decay: float | None = None
    save_every: int = may_change(1000)
    log_every: int = may_change(50)
    preview_every: int = may_change(0)
    keep_checkpoints: int = may_change(2)
    compile: bool = may_change(False)
    channels_last: bool = may_change(False)
    identity: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("steps", "save_every", "log_every", "keep_checkpoints"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("seed", "preview_every"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        require(self.schedule in ("constant", "cosine"), "schedule", self.schedule, "'constant' or 'cosine'")
        require(0 <= self.warmup_steps <= self.steps, "warmup_steps", self.warmup_steps, f"in 0..steps={self.steps}")
        require(self.max_grad_norm is None or self.max_grad_norm > 0, "max_grad_norm", self.max_grad_norm, "positive")
        require(self.ema_decay is None or 0 < self.ema_decay < 1, "ema_decay", self.ema_decay, "between 0 and 1")
        require(is_json(self.identity), "identity", self.identity, "what JSON can hold")

    def decisive(self) -> dict[str, Any]:
        """The settings that decide what is learned, as JSON gives them back."""
        free = {entry.name for entry in fields(self) if entry.metadata.get("may_change")}
        if self.schedule == "constant":
            free.add("steps")
        return as_json({name: value for name, value in asdict(self).items() if name not in free})


def rate_factor(step: int, settings: FitSettings) -> float:
    """The factor on every learning rate in step `step` (from 0): linear warm-up, then 1 or half a cosine to zero."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    progress = (step - settings.warmup_steps) / (settings.steps - settings.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


def step_generator(*numbers: int) -> torch.Generator:
    """A CPU generator that depends on `numbers` alone; torch's global generators are seeded alike."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


class Engine:
    """What a step needs of the machine. This one is plain torch in one process; `training.loop` has another.

    Attributes:
        device: where batches go.
        rank, world: the number of this process, and how many there are.
        accumulation: micro steps per optimizer step.
        sharded: each process holds a piece of the parts, so all of them write checkpoints, in the engine's own format.
    """

    rank = 0
    world = 1
    accumulation = 1
    sharded = False

    def __init__(self, device: torch.device):
        self.device = device

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """A part and its optimizer, made ready for training."""
        return module, optimizer

    def bare(self, prepared: nn.Module) -> nn.Module:
        """The module inside a prepared part."""
        return prepared

    def release(self, prepared: nn.Module) -> None:
        """Undoes what `prepare` changed in the module."""

    def autocast(self) -> AbstractContextManager:
        """The context of a loss."""
        return nullcontext()

    def accumulating(self, prepared: nn.Module) -> AbstractContextManager:
        """The context of one of the `accumulation` micro steps of a part."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of `loss / accumulation`."""
        loss.backward()

    def clip(self, prepared: nn.Module, max_norm: float) -> float:
        """Scales the gradient of a part down to `max_norm`; returns the norm it had."""
        return float(nn.utils.clip_grad_norm_(prepared.parameters(), max_norm))

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of each value over the processes."""
        return values

    def anywhere(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        return flag

    def wait(self) -> None:
        """Returns when every process is here."""

    def save(self, folder: Path) -> None:
        """Writes the prepared parts and optimizers, if `sharded`."""

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""


class Loop:
    """A run: its state, and the one way to advance it. What `fit` and `train` do differently is in the engine.

    Args:
        objective: what is trained; its parts are moved to the engine's device.
        batches: the data.
        settings: how long and how.
        folder: where results go; None keeps none.
        engine: the machine.
    """

    def __init__(
        self, objective: Objective, batches: Batches, settings: FitSettings, folder: RunFolder | None, engine: Engine
    ):
        self.objective, self.batches, self.settings = objective, batches, settings
        self.folder, self.engine = folder, engine
        self.main = engine.rank == 0
        self.step = 0  # optimizer steps done
        self.window: dict[str, list[float]] = {}  # numbers since the last line of metrics
        self.modules: dict[str, nn.Module] = {}
        self.prepared: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.averages: dict[str, MovingAverage] = {}
        for part, module in objective.parts.items():
            self._prepare(part, module)

    def _prepare(self, part: str, module: nn.Module) -> None:
        module.to(self.engine.device).train()
        if self.settings.channels_last:
            module.to(memory_format=torch.channels_last)
        optimizer = self.objective.optimizer(part)
        for group in optimizer.param_groups:
            group["initial_lr"] = float(group["lr"])
        self.prepared[part], self.optimizers[part] = self.engine.prepare(module, optimizer)
        self.modules[part] = self.engine.bare(self.prepared[part])
        if self.settings.compile:
            self.modules[part].compile()
        if self.settings.ema_decay is not None:
            self.averages[part] = MovingAverage(self.modules[part], self.settings.ema_decay)

    def run(self, resume: bool = True, progress: bool = True) -> dict[str, nn.Module]:
        """Trains to the last step; returns the parts in eval mode, with EMA weights if EMA is on.

        Ctrl-C or SIGTERM stops it after the step that it is in, which is saved; the second one stops it at once.
        """
        with self.folder.locked() if self.folder and self.main else nullcontext():
            if self.folder:
                self._open(resume)
            self._train(progress and self.main)
            return self._finish()

    def _train(self, progress: bool) -> None:
        micro_batches = self.batches(self.step, self.engine.rank, self.engine.world)
        with StopSignals() as stop, RunProgress(self.settings.steps, self.step, progress) as shown:
            while self.step < self.settings.steps:
                numbers = self._update([self._next(micro_batches) for _ in range(self.engine.accumulation)])
                self.step += 1
                self._log(numbers, shown)
                if self.settings.preview_every and self._due(self.settings.preview_every):
                    self._preview()
                stopping = self.engine.anywhere(stop.received is not None)
                if self.folder and (stopping or self._due(self.settings.save_every)):
                    self._save()
                if stopping:
                    shown.stopped(saved=self.folder is not None)
                    stop.obey()

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.settings.steps

    def _next(self, micro_batches: Iterator) -> Any:
        try:
            return moved(next(micro_batches), self.engine.device)
        except StopIteration:
            raise ValueError(f"batches ended in step {self.step + 1} of {self.settings.steps}") from None

    def _update(self, micro_batches: list[Any]) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for part in self.modules:
            prefix = f"{part}_" if len(self.modules) > 1 else ""
            numbers |= {prefix + name: value for name, value in self._update_part(part, micro_batches).items()}
        for average in self.averages.values():
            average.update(self.step)
        return numbers

    def _update_part(self, part: str, micro_batches: list[Any]) -> dict[str, float]:
        optimizer, prepared, max_norm = self.optimizers[part], self.prepared[part], self.settings.max_grad_norm
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate_factor(self.step, self.settings)
        prepared.zero_grad()
        numbers = self._accumulate(part, micro_batches)
        numbers["grad_norm"] = self.engine.clip(prepared, math.inf if max_norm is None else max_norm)
        self._check_finite(part, numbers)
        optimizer.step()
        if hasattr(self.objective, "after_step"):
            self.objective.after_step(part, self.step, optimizer)
        return numbers | {"lr": optimizer.param_groups[0]["lr"]}

    def _accumulate(self, part: str, micro_batches: list[Any]) -> dict[str, float]:
        """Adds up the gradients of the micro steps; returns the means of what the objective reports."""
        reports = []
        index = list(self.modules).index(part)
        with self._updating(part):
            for micro, batch in enumerate(micro_batches):
                generator = step_generator(self.settings.seed, self.step, index, micro, self.engine.rank)
                with self.engine.accumulating(self.prepared[part]):
                    with self.engine.autocast():
                        loss, metrics = self.objective.loss(part, batch, generator)
                    self.engine.backward(loss)
                reports.append({"loss": float(loss.detach()), **metrics})
        means = {name: sum(float(report[name]) for report in reports) / len(reports) for name in reports[0]}
        return self.engine.mean(means)

    @contextmanager
    def _updating(self, part: str) -> Iterator[None]:
        """Inside, the objective sees this part prepared and the parameters of the others frozen."""
        others = [module for name, module in self.modules.items() if name != part]
        frozen = [parameter for module in others for parameter in module.parameters() if parameter.requires_grad]
        self.objective.parts[part] = self.prepared[part]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
            self.objective.parts[part] = self.modules[part]

    def _check_finite(self, part: str, numbers: dict[str, float]) -> None:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(numbers[name]):
                good = f"; {self.folder.last_good()}" if self.folder else ""
                raise FloatingPointError(f"{name} of {part!r} is {numbers[name]} in step {self.step + 1}{good}")

    def _log(self, numbers: dict[str, float], shown: RunProgress) -> None:
        for name, value in numbers.items():
            self.window.setdefault(name, []).append(value)
        shown.advance(self.step, numbers)
        if not self._due(self.settings.log_every):
            return
        means = {name: sum(values) / len(values) for name, values in self.window.items()}
        record = {"step": self.step, **means, "steps_per_second": shown.mark()}
        self.window = {}
        shown.line(record)
        if self.folder and self.main:
            self.folder.append_metrics(record)

    def _preview(self) -> None:
        if self.folder and (self.main or self.engine.sharded):
            with self._evaluating():
                image = self.objective.preview(dict(self.modules))
            if image is not None and self.main:
                self.folder.save_preview(self.step, image)
        self.engine.wait()

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Inside, the parts hold the EMA weights, in eval mode, and run without gradients and not compiled."""
        flags = {child: child.training for module in self.modules.values() for child in module.modules()}
        with ExitStack() as stack:
            for average in self.averages.values():
                stack.enter_context(average.swapped_in())
            stack.enter_context(torch.no_grad())
            if self.settings.compile:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            for module in self.modules.values():
                module.eval()
            yield
        for child, flag in flags.items():
            child.training = flag

    def _save(self) -> None:
        with self.folder.drafting(self.step) as draft:
            if self.main:
                self.folder.begin_checkpoint(self.step)
            self.engine.wait()
            if self.main or self.engine.sharded:
                self._write(draft)
            self.engine.wait()
            if self.main:
                self.folder.finish_checkpoint(self.step, self.settings.keep_checkpoints)
        self.engine.wait()

    def _write(self, folder: Path) -> None:
        if self.engine.sharded:
            self.engine.save(folder)
        else:
            for part, module in self.modules.items():
                save_tensors(folder / f"{part}.safetensors", module.state_dict())
                save_tree(folder / f"{part}.optimizer", self.optimizers[part].state_dict())
        for part, average in self.averages.items():
            save_tensors(self._average_file(folder, part), average.averages)
        if self.main:
            state = {"step": self.step, "decisive": self._decisive(), "window": self.window}
            (folder / "state.json").write_text(json.dumps(state, indent=1))

    def _average_file(self, folder: Path, part: str) -> Path:
        shard = f".{self.engine.rank}" if self.engine.sharded else ""
        return folder / f"{part}.ema{shard}.safetensors"

    def _decisive(self) -> dict[str, Any]:
        return self.settings.decisive() | {"world": self.engine.world, "parts": list(self.modules)}

    def _open(self, resume: bool) -> None:
        checkpoint = self.folder.newest_checkpoint()
        if checkpoint and not resume:
            raise ValueError(f"output {str(self.folder.path)!r} holds a run already; resume it or name another folder")
        if checkpoint:
            self._load(checkpoint)
        if self.main:
            self.folder.clear_leftovers()
            self.folder.trim_metrics(self.step)
        self.engine.wait()

    def _load(self, checkpoint: Path) -> None:
        state = json.loads((checkpoint / "state.json").read_text())
        require_same(checkpoint, state["decisive"], self._decisive())
        steps, done = self.settings.steps, state["step"]
        require(done <= steps, "steps", steps, f"at least {done}, where {str(checkpoint)!r} is already")
        if self.engine.sharded:
            self.engine.load(checkpoint)
        else:
            for part, module in self.modules.items():
                load_weights(module, load_file(checkpoint / f"{part}.safetensors"), f"part {part!r}", checkpoint)
                load_optimizer(self.optimizers[part], load_tree(checkpoint / f"{part}.optimizer"), part, checkpoint)
        for part, average in self.averages.items():
            average.load(load_file(self._average_file(checkpoint, part)))
        self.step, self.window = done, state["window"]

    def _finish(self) -> dict[str, nn.Module]:
        for part, module in self.modules.items():
            if self.averages:
                self.averages[part].copy_to_module()
            self.engine.release(self.prepared[part])
            module.__dict__.pop("_compiled_call_impl", None)  # set by Module.compile; torch offers no way back
            module.eval().zero_grad()
        return self.modules


def is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def require_same(checkpoint: Path, then: dict[str, Any], now: dict[str, Any], owner: str = "") -> None:
    for name in sorted(now.keys() | then.keys()):
        if now.get(name) != then.get(name):
            raise ValueError(
                f"{name}{owner} is {now.get(name)!r}, but {str(checkpoint)!r} was made with {then.get(name)!r};"
                f" use that again, or another output folder"
            )


def load_weights(module: nn.Module, tensors: dict[str, Tensor], owner: str, checkpoint: Path) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{owner} does not fit the weights in {str(checkpoint)!r}: {reason}") from error


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any], part: str, checkpoint: Path) -> None:
    """Loads `saved` without a change of type, and in the memory layout of the parameters (fused kernels need it)."""
    owner, groups, saved_groups = f" of the optimizer of {part!r}", optimizer.param_groups, saved["param_groups"]
    require_same(checkpoint, {"number of groups": len(saved_groups)}, {"number of groups": len(groups)}, owner)
    for now, then in zip(groups, saved_groups, strict=True):
        require_same(checkpoint, hyperparameters(then), hyperparameters(now), owner)
    optimizer.load_state_dict(saved)
    parameters = [parameter for group in groups for parameter in group["params"]]
    for index, entries in saved["state"].items():
        parameter = parameters[index]
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.ndim and value.shape == parameter.shape:
                laid_out = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
                optimizer.state[parameter][name] = laid_out.copy_(value)


def hyperparameters(group: dict[str, Any]) -> dict[str, Any]:
    return as_json({name: value for name, value in group.items() if name not in ("params", "lr")})


def moved(batch: Any, device: torch.device) -> Any:
    """`batch` with everything in its dicts, lists and tuples that has a method `to` on `device`."""
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, list):
        return [moved(value, device) for value in batch]
    if isinstance(batch, tuple):
        values = [moved(value, device) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else tuple(values)
    return batch


def load_run(output: str | Path, modules: dict[str, nn.Module]) -> int:
    """Loads the newest checkpoint of a run, finished or not, into fresh modules: EMA weights if EMA was on.

    Args:
        output: the folder that was given to `fit` or `train`.
        modules: part -> module, for all parts of the run or some of them.

    Returns:
        the number of optimizer steps the weights have had.

    Raises:
        FileNotFoundError: `output` holds no checkpoint.
        ValueError: the checkpoint is damaged, or a module does not fit it.
    """
    checkpoint = RunFolder(output).newest_checkpoint() if Path(output).is_dir() else None
    if checkpoint is None:
        raise FileNotFoundError(f"output {str(output)!r} holds no checkpoint; train first")
    for part, module in modules.items():
        tensors = load_file(checkpoint / f"{part}.safetensors")
        if (checkpoint / f"{part}.ema.safetensors").exists():
            tensors |= load_file(checkpoint / f"{part}.ema.safetensors")
        load_weights(module, tensors, f"part {part!r}", checkpoint)
    return json.loads((checkpoint / "state.json").read_text())["step"]


def fit(
    objective: Objective,
    batches: Batches,
    settings: FitSettings,
    output: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
) -> dict[str, nn.Module]:
    """Trains with plain torch in this process, on the device of the parts.

    Args:
        objective: what is trained.
        batches: the data, see `Batches`.
        settings: how long and how.
        output: folder for checkpoints, metrics.jsonl and previews; None keeps none.
        resume: continue from the newest checkpoint in `output`, if there is one.
        progress: show a bar on a terminal, or one line per log elsewhere.

    Returns:
        the parts, the same objects, in eval mode; with EMA weights if EMA is on.

    Raises:
        ValueError: a damaged checkpoint, or one made with other settings; `resume` is False and there is one.
        OSError: `output` cannot be written to, or another run writes to it.
        FloatingPointError: a loss or gradient is not finite; names the step and the last good checkpoint.
    """
    folder = None if output is None else RunFolder(output)
    device = next(parameter.device for module in objective.parts.values() for parameter in module.parameters())
    return Loop(objective, batches, settings, folder, Engine(device)).run(resume, progress)
