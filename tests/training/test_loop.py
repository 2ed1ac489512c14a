"""The loop under accelerate: two processes, accumulation, precision, compilation, sharded checkpoints, the loss plot.

Run as a script (`accelerate launch test_loop.py FOLDER`), it plays one of the two processes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from pocket_diffusers.pipelines.fitting.run_folder import RunFolder
from pocket_diffusers.training.loop import AccelerateEngine, TrainLoop, TrainSettings, train
from pocket_diffusers.training.preset import Preset
from pocket_diffusers.training.stages import Stage, on_main_process, run_stage


class Regression:
    """A small net and a loss that is a mean over the batch, without noise: it adds up however the batch is cut."""

    def __init__(self):
        torch.manual_seed(0)
        self.parts = {"net": nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))}
        self.types = set()

    def optimizer(self, part):
        return torch.optim.SGD(self.parts[part].parameters(), lr=0.1, momentum=0.9)

    def loss(self, part, batch, generator):
        predicted = self.parts[part](batch)
        self.types.add(predicted.dtype)
        return (predicted.float() - batch.sum(1, keepdim=True)).square().mean(), {"size": float(len(batch))}

    def preview(self, modules):
        return Image.new("L", (2, 2), int(modules["net"](torch.ones(1, 4)).abs().item() * 50) % 256)


class Adversaries(Regression):
    def __init__(self):
        torch.manual_seed(0)
        self.parts = {"generator": nn.Linear(4, 4), "discriminator": nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))}

    def loss(self, part, batch, generator):
        made = self.parts["generator"](batch.flip(1))
        if part == "generator":
            return F.softplus(-self.parts["discriminator"](made)).mean(), {}
        true = F.softplus(-self.parts["discriminator"](batch + 1)).mean()
        return true + F.softplus(self.parts["discriminator"](made)).mean(), {}


def batches_of(micro_steps):
    """Eight rows a step, cut into micro steps and dealt to the processes."""

    def batches(start, rank, world):
        for step in range(start, 10**9):
            rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            for micro in range(micro_steps):
                yield rows[micro::micro_steps][rank::world]

    return batches


def settings(**changes):
    return TrainSettings(**({"steps": 6, "save_every": 6, "log_every": 2, "ema_decay": 0.9} | changes))


def tensors_of(folder):
    newest = max((folder / "checkpoints").glob("step_*"))
    return {
        f"{file.name}:{key}": value for file in newest.glob("*.safetensors") for key, value in load_file(file).items()
    }


def assert_close(ours, theirs, tolerance):
    assert ours.keys() == theirs.keys() and len(ours) > 0
    for name in ours:
        assert (ours[name] - theirs[name]).abs().max() <= tolerance, name


def losses_of(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def train_regression(preset, run):
    run.learn(Regression(), batches_of(1))
    on_main_process(lambda: (run.folder / "writers").open("a").write(f"{os.environ['RANK']}\n"))
    return run.folder


def play(folder):
    """What each of two processes does; the stage comes first, for it has to find the other process by itself."""
    stages = {"regression": Stage(train_regression, {"nano": Preset(steps=2)})}
    run_stage("someone", stages, "regression", "nano", folder)
    train(Regression(), batches_of(1), settings(), folder / "whole")
    train(Regression(), batches_of(1), settings(steps=3), folder / "resumed")
    train(Regression(), batches_of(1), settings(), folder / "resumed")
    accumulated = settings(gradient_accumulation_steps=2)
    train(Regression(), batches_of(2), accumulated, folder / "accumulated")
    train(Adversaries(), batches_of(1), settings(), folder / "adversaries")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    # `--cpu` starts a single process unless there is MPI; with this variable `--multi_gpu` starts two on the CPU.
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    subprocess.run([*launch, *options, __file__, folder], check=True, env=environment, timeout=600)
    return folder


@pytest.mark.parametrize("run", ["whole", "accumulated"])
def test_two_processes_learn_what_one_learns_from_the_batch_of_both(two_processes, run, tmp_path):
    train(Regression(), batches_of(1), settings(), tmp_path)
    assert_close(tensors_of(two_processes / run), tensors_of(tmp_path), 1e-5)
    assert losses_of(two_processes / run) == pytest.approx(losses_of(tmp_path), abs=1e-5)
    newest = max((two_processes / run / "checkpoints").glob("step_*"))
    assert json.loads((newest / "state.json").read_text())["decisive"]["world"] == 2
    record = json.loads((two_processes / run / "metrics.jsonl").read_text().splitlines()[0])
    assert record["size"] == {"whole": 4, "accumulated": 2}[run]


def test_of_two_processes_of_a_stage_one_writes(two_processes):
    folder = two_processes / "regression"
    assert (folder / "writers").read_text() == "0\n"
    assert json.loads((folder / "training.json").read_text())[-1]["stage"] == "regression"
    (state,) = folder.glob("checkpoints/*/state.json")
    assert json.loads(state.read_text())["decisive"]["world"] == 2


def test_two_processes_resume_exactly(two_processes):
    assert_close(tensors_of(two_processes / "resumed"), tensors_of(two_processes / "whole"), 0)
    steps = [
        json.loads(line)["step"] for line in (two_processes / "resumed" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == [2, 3, 4, 6]


def test_two_processes_train_two_parts_as_one_process_does(two_processes, tmp_path):
    train(Adversaries(), batches_of(1), settings(), tmp_path)
    assert_close(tensors_of(two_processes / "adversaries"), tensors_of(tmp_path), 1e-5)


def test_a_run_of_two_processes_is_not_resumed_by_one(two_processes, tmp_path):
    shutil.copytree(two_processes / "whole", tmp_path, dirs_exist_ok=True)
    with pytest.raises(ValueError, match="world is 1, but .*step_00000006.* was made with 2"):
        train(Regression(), batches_of(1), settings(), tmp_path)


@pytest.mark.parametrize("objective", [Regression, Adversaries])
def test_accumulated_micro_steps_are_one_big_step(objective, tmp_path):
    train(objective(), batches_of(1), settings(), tmp_path / "big")
    train(objective(), batches_of(4), settings(gradient_accumulation_steps=4), tmp_path / "small")
    assert_close(tensors_of(tmp_path / "small"), tensors_of(tmp_path / "big"), 1e-5)


def test_bfloat16_computes_in_bfloat16_keeps_float32_and_leaves_the_modules_clean(tmp_path):
    half, full = Regression(), Regression()
    before = set(vars(half.parts["net"]))
    module = train(half, batches_of(1), settings(mixed_precision="bf16"), tmp_path / "half")["net"]
    train(full, batches_of(1), settings(), tmp_path / "full")
    assert half.types == {torch.bfloat16} and full.types == {torch.float32}
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    assert_close(tensors_of(tmp_path / "half"), tensors_of(tmp_path / "full"), 0.1)
    assert set(vars(module)) == before and module(torch.ones(1, 4)).dtype == torch.float32


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_parts_learn_the_same_under_the_same_names(tmp_path):
    train(Regression(), batches_of(1), settings(), tmp_path / "eager")
    module = train(Regression(), batches_of(1), settings(compile=True, preview_every=3), tmp_path / "compiled")["net"]
    assert_close(tensors_of(tmp_path / "compiled"), tensors_of(tmp_path / "eager"), 1e-5)
    assert "_compiled_call_impl" not in vars(module)


class ShardedEngine(AccelerateEngine):
    """Writes checkpoints as under FSDP or DeepSpeed, through accelerate."""

    def __init__(self, settings):
        super().__init__(settings)
        self.sharded = True


def test_checkpoints_in_accelerates_own_format_resume_exactly(tmp_path):
    for folder, all_steps in (("whole", [6]), ("resumed", [3, 6])):
        for steps in all_steps:
            changed = settings(steps=steps)
            output = RunFolder(tmp_path / folder)
            TrainLoop(Regression(), batches_of(1), changed, output, ShardedEngine(changed)).run()
    train(Regression(), batches_of(1), settings(), tmp_path / "plain")
    whole, resumed = (load_file(tmp_path / folder / "net.safetensors") for folder in ("whole", "resumed"))
    assert_close(resumed, whole, 0)
    averages = load_file(tmp_path / "plain" / "checkpoints" / "step_00000006" / "net.ema.safetensors")
    assert_close(whole, averages, 0)


def test_the_losses_are_drawn(tmp_path):
    train(Adversaries(), batches_of(1), settings(), tmp_path)
    with Image.open(tmp_path / "loss.png") as plot:
        assert plot.size == (800, 450) and len(np.unique(np.asarray(plot.convert("L")))) > 20


def test_without_matplotlib_the_extra_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="needs matplotlib, which comes with the extra 'train'"):
        train(Regression(), batches_of(1), settings(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_precision_that_accelerate_is_not_configured_for_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state()
    with pytest.raises(ValueError, match="mixed_precision must be 'bf16', which accelerate is configured.*not 'no'"):
        train(Regression(), batches_of(1), settings(), tmp_path)
    AcceleratorState._reset_state()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mixed_precision": "fp16"}, "mixed_precision must be 'no' or 'bf16'.*not 'fp16'"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1.*not 0"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
    ],
)
def test_settings_out_of_range_are_named(values, words):
    with pytest.raises(ValueError, match=words):
        settings(**values)


if __name__ == "__main__":
    play(Path(sys.argv[1]))
