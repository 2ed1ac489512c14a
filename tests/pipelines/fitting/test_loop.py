"""The step loop: exact resume, the arithmetic of a step, what a run leaves behind, and how it refuses.

Run as a script (`python test_loop.py FOLDER`), it plays the runs that get killed.
"""

import importlib
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit, load_run, rate_factor
from pocket_diffusers.pipelines.fitting.moving_average import MovingAverage


class Regression:
    """A small net with dropout and noisy inputs: without exact resume every random number shows in the weights."""

    def __init__(self, rate=0.05, seed=0, width=8):
        torch.manual_seed(seed)
        self.rate = rate
        self.parts = {"net": nn.Sequential(nn.Linear(4, width), nn.Dropout(0.2), nn.Linear(width, 1))}

    def optimizer(self, part):
        return torch.optim.AdamW(self.parts[part].parameters(), lr=self.rate)

    def loss(self, part, batch, generator):
        inputs = batch + 0.1 * torch.randn(batch.shape, generator=generator)
        error = self.parts[part](inputs) - batch.sum(1, keepdim=True)
        return error.square().mean(), {"noise": float(inputs.std())}

    def preview(self, modules):
        assert not any(child.training for module in modules.values() for child in module.modules())
        assert not torch.is_grad_enabled()
        value = modules["net"](torch.ones(1, 4)).item()
        return Image.new("RGB", (4, 4), (int(abs(value) * 100) % 256, 0, 0))


class Line:
    """A weight vector w with the loss c.w: the gradient is c at every step."""

    def __init__(self, gradient, rate=1.0, dtype=torch.float32):
        self.gradient = torch.tensor(gradient)
        self.rate = rate
        self.parts = {"w": nn.Linear(len(gradient), 1, bias=False, dtype=dtype)}
        nn.init.constant_(self.parts["w"].weight, 1.0)

    def optimizer(self, part):
        return torch.optim.SGD(self.parts[part].parameters(), lr=self.rate)

    def loss(self, part, batch, generator):
        return self.parts[part](self.gradient.to(self.parts[part].weight.dtype)).sum(), {}

    def preview(self, modules):
        return None


def batches(start, rank, world, micro_steps=1):
    for item in range(start * micro_steps, 10**9):
        yield torch.randn(8, 4, generator=torch.Generator().manual_seed(item * world + rank))


def steps_of(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless_metrics(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) | {"steps_per_second": None} for line in lines]


def weights_of(folder):
    newest = max((folder / "checkpoints").glob("step_*"))
    return {
        f"{file.name}:{key}": value for file in newest.glob("*.safetensors") for key, value in load_file(file).items()
    }


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys() and len(ours) > 0
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


# Runs that are killed. A child is forked for each, from a process that has imported torch but not used it.

STEPS = 40
KILLS = ("loss", "preview", "checkpoint", "random")


class Killed(Regression):
    """Kills its own process, with no chance to clean up, in the middle of something."""

    def __init__(self, moment):
        super().__init__()
        self.moment, self.calls = moment, 0
        self.parts["second"] = nn.Linear(1, 1)
        original = self.parts["second"].state_dict
        self.parts["second"].state_dict = lambda *a, **k: (self.die("checkpoint", 4), original(*a, **k))[1]

    def die(self, moment, call):
        if moment == self.moment:
            self.calls += 1
            if self.calls == call:
                os.kill(os.getpid(), signal.SIGKILL)

    def loss(self, part, batch, generator):
        if part == "second":
            return self.parts["second"](torch.ones(1)).square().sum(), {}
        self.die("loss", 23)
        return super().loss(part, batch, generator)

    def preview(self, modules):
        self.die("preview", 3)
        return super().preview(modules)


def play(driver, moment, folder):
    """One process of a run, to its end or its death."""
    settings = {
        "steps": STEPS,
        "schedule": "cosine",
        "warmup_steps": 5,
        "ema_decay": 0.9,
        "save_every": 5,
        "log_every": 3,
        "preview_every": 6,
    }
    if driver == "fit":
        fit(Killed(moment), batches, FitSettings(**settings), folder)
    else:
        from pocket_diffusers.training.loop import TrainSettings, train

        accumulating = TrainSettings(**settings, gradient_accumulation_steps=2)
        train(Killed(moment), partial(batches, micro_steps=2), accumulating, folder)


def spawn(driver, moment, folder):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            play(driver, moment, folder)
            code = 0
        finally:
            os._exit(code)
    return child


def play_all(driver, folder):
    """The run undisturbed, then once for each way to be killed, always continued to the end."""
    began = time.monotonic()
    assert os.waitpid(spawn(driver, "never", folder / "whole"), 0)[1] == 0
    duration = time.monotonic() - began
    for moment in KILLS[:-1]:
        assert os.waitpid(spawn(driver, moment, folder / moment), 0)[1] == signal.SIGKILL, moment
        assert os.waitpid(spawn(driver, "never", folder / moment), 0)[1] == 0
    dice, kills, status = random.Random(0), 0, signal.SIGKILL
    while status == signal.SIGKILL:
        child = spawn(driver, "never", folder / "random")
        time.sleep(duration * dice.uniform(0.1, 0.4) * 1.3**kills)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        kills += 1
    assert status == 0


@pytest.fixture(scope="module")
def killed_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, __file__, folder], check=True, env=environment, timeout=1200)
    return folder


@pytest.mark.parametrize("driver", ["fit", "train"])
def test_a_run_that_is_killed_ends_with_the_same_bits(driver, killed_runs):
    whole = killed_runs / driver / "whole"
    assert {name.partition(":")[0] for name in weights_of(whole)} == {
        f"{part}{kind}.safetensors" for part in ("net", "second") for kind in ("", ".ema", ".optimizer")
    }
    for moment in KILLS:
        folder = killed_runs / driver / moment
        assert_same(weights_of(folder), weights_of(whole))
        assert steps_of(folder) == [*range(3, STEPS, 3), STEPS]
        assert timeless_metrics(folder) == timeless_metrics(whole)
        assert not list(folder.rglob("*.partial"))
        for preview in (whole / "previews").iterdir():
            assert (folder / "previews" / preview.name).read_bytes() == preview.read_bytes()


# The arithmetic of a step


def test_it_is_the_loop_one_would_write_by_hand():
    ours = fit(Line([0.3, -0.4], rate=0.1), batches, FitSettings(steps=7, max_grad_norm=None))
    assert torch.allclose(ours["w"].weight, 1 - 7 * 0.1 * torch.tensor([[0.3, -0.4]]), atol=1e-6)


def test_cosine_schedule_is_torchs():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    settings = FitSettings(steps=50, schedule="cosine")
    for step in range(50):
        assert rate_factor(step, settings) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        oracle.step()


def test_warm_up_is_linear_and_the_cosine_begins_after_it():
    settings = FitSettings(steps=14, schedule="cosine", warmup_steps=4)
    assert [rate_factor(step, settings) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rate_factor(9, settings) == pytest.approx(0.5)
    assert rate_factor(13, settings) == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)))
    assert rate_factor(999, FitSettings(steps=1000)) == 1.0


def test_the_schedule_reaches_the_weights():
    modules = fit(Line([1.0], rate=0.1), batches, FitSettings(steps=4, warmup_steps=4, max_grad_norm=None))
    assert modules["w"].weight.item() == pytest.approx(1 - 0.1 * (0.25 + 0.5 + 0.75 + 1.0))


def test_moving_average_is_the_weighted_sum_of_the_weights_of_every_step():
    n = 12
    settings = FitSettings(steps=n, ema_decay=0.4, max_grad_norm=None)
    averaged = fit(Line([1.0], rate=0.1), batches, settings)["w"].weight.item()
    decays = np.minimum(0.4, (1 + np.arange(n)) / (10 + np.arange(n)))
    assert decays[0] == 0.1 and decays[-1] == 0.4
    weights = 1 - 0.1 * np.arange(n + 1)
    after = np.array([decays[t + 1 :].prod() for t in range(n)])
    assert averaged == pytest.approx(decays.prod() * weights[0] + ((1 - decays) * after * weights[1:]).sum(), abs=1e-6)


def test_moving_average_of_bfloat16_weights_keeps_what_bfloat16_would_lose():
    module = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    nn.init.constant_(module.weight, 1.0)
    average = MovingAverage(module, 0.999)
    nn.init.constant_(module.weight, 2.0)
    for _ in range(100):
        average.update(10**6)
    assert average.averages["weight"].item() == pytest.approx(2 - 0.999**100, rel=1e-5)
    with average.swapped_in():
        assert module.weight.item() == pytest.approx(2 - 0.999**100, rel=1e-2)
    assert module.weight.item() == 2.0 and module.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(("limit", "length"), [(None, 5.0), (1.0, 1.0), (4.0, 4.0), (6.0, 5.0)])
def test_the_gradient_is_clipped_to_the_limit_and_no_further(limit, length):
    modules = fit(Line([3.0, 4.0]), batches, FitSettings(steps=1, max_grad_norm=limit))
    moved = 1 - modules["w"].weight.detach()[0]
    assert moved.norm().item() == pytest.approx(length, rel=1e-5)
    assert moved[1] / moved[0] == pytest.approx(4 / 3, rel=1e-5)


def test_frozen_parameters_stay_and_are_not_averaged():
    objective = Regression()
    first = objective.parts["net"][0].requires_grad_(False)
    before = first.weight.clone()
    fit(objective, batches, FitSettings(steps=3, ema_decay=0.9))
    assert torch.equal(first.weight, before)
    assert not first.weight.requires_grad and objective.parts["net"][2].weight.requires_grad


class Adversaries:
    """Two scalars, a generator g and a discriminator d, with losses that each involve both."""

    def __init__(self):
        self.parts = {"g": Scalar(0.5), "d": Scalar(2.0)}
        self.calls = []

    def optimizer(self, part):
        return torch.optim.SGD(self.parts[part].parameters(), lr=0.1)

    def loss(self, part, batch, generator):
        other = "d" if part == "g" else "g"
        assert not self.parts[other].value.requires_grad and self.parts[part].value.requires_grad
        self.calls.append((part, torch.rand((), generator=generator).item()))
        product = self.parts["d"](self.parts["g"](torch.ones(())))
        return (product if part == "g" else -product + self.parts["d"].value ** 2), {}

    def preview(self, modules):
        return None


class Scalar(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return self.value * x


def test_two_parts_are_updated_in_order_each_seeing_the_others_newest_weights(tmp_path):
    objective = Adversaries()
    fit(objective, batches, FitSettings(steps=5, log_every=1, max_grad_norm=None), tmp_path)
    g, d = 0.5, 2.0
    for _ in range(5):
        g = g - 0.1 * d
        d = d - 0.1 * (-g + 2 * d)
    assert objective.parts["g"].value.item() == pytest.approx(g, abs=1e-6)
    assert objective.parts["d"].value.item() == pytest.approx(d, abs=1e-6)
    assert [part for part, _ in objective.calls] == ["g", "d"] * 5
    assert len({noise for _, noise in objective.calls}) == 10
    record = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"step", "g_loss", "d_loss", "g_grad_norm", "d_grad_norm", "g_lr", "d_lr"} <= record.keys()


# What a run leaves behind


def test_metrics_are_means_over_the_steps_since_the_last_line(tmp_path):
    fit(Regression(), batches, FitSettings(steps=6, log_every=1), tmp_path / "each")
    fit(Regression(), batches, FitSettings(steps=6, log_every=4), tmp_path / "fours")
    each = [json.loads(line) for line in (tmp_path / "each" / "metrics.jsonl").read_text().splitlines()]
    fours = [json.loads(line) for line in (tmp_path / "fours" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in fours] == [4, 6]
    for name in ("loss", "noise", "grad_norm", "lr"):
        assert fours[0][name] == pytest.approx(np.mean([record[name] for record in each[:4]]))
        assert fours[1][name] == pytest.approx(np.mean([record[name] for record in each[4:]]))


def test_previews_show_the_average_and_do_not_disturb_the_training(tmp_path):
    class Curious(Regression):
        def preview(self, modules):
            self.seen = modules["net"][0].weight.clone()
            torch.rand(100)
            return super().preview(modules)

    plain, curious = Regression(), Curious()
    fit(plain, batches, FitSettings(steps=9, ema_decay=0.9), tmp_path / "plain")
    fit(curious, batches, FitSettings(steps=9, ema_decay=0.9, preview_every=3), tmp_path / "curious")
    assert_same(weights_of(tmp_path / "plain"), weights_of(tmp_path / "curious"))
    assert torch.equal(curious.seen, curious.parts["net"][0].weight)
    names = [f"step_{step:08d}.png" for step in (3, 6, 9)]
    assert sorted(file.name for file in (tmp_path / "curious" / "previews").iterdir()) == names


def test_only_the_newest_checkpoints_stay_and_the_last_step_is_one(tmp_path):
    fit(Regression(), batches, FitSettings(steps=11, save_every=3, keep_checkpoints=2), tmp_path)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step_00000009", "step_00000011"]


def test_a_run_is_loaded_into_fresh_modules(tmp_path):
    trained = fit(Regression(), batches, FitSettings(steps=5, ema_decay=0.9), tmp_path)
    fresh = Regression(seed=1).parts
    assert load_run(tmp_path, fresh) == 5
    assert_same(fresh["net"].state_dict(), trained["net"].state_dict())
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        load_run(tmp_path / "nowhere", fresh)
    assert not (tmp_path / "nowhere").exists()


def test_modules_come_back_as_they_were_given_in_eval_mode_and_nothing_is_written_without_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objective = Regression()
    module = objective.parts["net"]
    assert fit(objective, batches, FitSettings(steps=2, preview_every=1))["net"] is module
    assert not module.training and objective.parts["net"] is module
    assert not list(tmp_path.iterdir())


def test_a_log_file_gets_one_line_per_log_and_silence_is_silent(capsys):
    fit(Regression(), batches, FitSettings(steps=6, log_every=2))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["2/6", "4/6", "6/6"]
    assert all("loss" in line and "steps_per_second" in line and "left 0:00:0" in line for line in lines)
    fit(Regression(), batches, FitSettings(steps=2), progress=False)
    assert capsys.readouterr().out == ""


class Convolution(Regression):
    def __init__(self):
        torch.manual_seed(0)
        self.parts = {"net": nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 6, 3, padding=1), nn.Flatten())}

    def optimizer(self, part):
        return torch.optim.AdamW(self.parts[part].parameters(), lr=0.01, fused=True)


def test_channels_last_weights_resume_exactly_with_a_fused_optimizer(tmp_path):
    for steps, folder in ((4, "halves"), (8, "halves"), (8, "whole")):
        settings = FitSettings(steps=steps, channels_last=True, ema_decay=0.9)
        modules = fit(Convolution(), batches, settings, tmp_path / folder)
        assert modules["net"][1].weight.is_contiguous(memory_format=torch.channels_last)
    assert_same(weights_of(tmp_path / "halves"), weights_of(tmp_path / "whole"))


# How it refuses


class Poisoned(Regression):
    def __init__(self, step, where):
        super().__init__()
        self.step, self.where, self.calls = step, where, 0

    def loss(self, part, batch, generator):
        self.calls += 1
        loss, metrics = super().loss(part, batch, generator)
        if self.calls < self.step:
            return loss, metrics
        if self.where == "loss":
            return loss * math.inf, metrics
        return loss + (self.parts["net"][0].weight * 0).abs().sqrt().sum(), metrics  # the derivative is 0 * inf


@pytest.mark.parametrize("where", ["loss", "grad_norm"])
def test_a_number_that_is_not_finite_stops_the_run(where, tmp_path):
    objective = Poisoned(8, where)
    with pytest.raises(FloatingPointError) as stopped:
        fit(objective, batches, FitSettings(steps=20, save_every=3), tmp_path)
    message = str(stopped.value)
    assert message.startswith(where) and "in step 8;" in message and "step_00000006" in message
    assert all(parameter.isfinite().all() for parameter in objective.parts["net"].parameters())
    fit(Regression(), batches, FitSettings(steps=20, save_every=3), tmp_path)
    fit(Regression(), batches, FitSettings(steps=20, save_every=3), tmp_path / "whole")
    assert_same(weights_of(tmp_path), weights_of(tmp_path / "whole"))


@pytest.mark.parametrize("file", ["net.safetensors", "net.optimizer.safetensors", "net.optimizer.json", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_checkpoint_is_named_and_the_last_good_one_too(file, damage, tmp_path):
    settings = FitSettings(steps=6, save_every=3)
    fit(Regression(), batches, settings, tmp_path)
    path = tmp_path / "checkpoints" / "step_00000006" / file
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[-2] ^= 1
        path.write_bytes(content[:-7] if damage == "truncated" else content)
    with pytest.raises(ValueError) as refused:
        fit(Regression(), batches, settings, tmp_path)
    message = str(refused.value)
    assert str(path) in message and "last good checkpoint" in message and "step_00000003" in message
    assert "\n" not in message


def test_a_checkpoint_without_its_sums_is_damaged(tmp_path):
    settings = FitSettings(steps=2)
    fit(Regression(), batches, settings, tmp_path)
    (tmp_path / "checkpoints" / "step_00000002" / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match="SHA256SUMS.*there is no good checkpoint"):
        fit(Regression(), batches, settings, tmp_path)


@pytest.mark.parametrize(
    ("changes", "objective", "words"),
    [
        ({"seed": 1}, Regression(), "seed is 1, but .*step_00000004.* was made with 0"),
        ({"schedule": "constant"}, Regression(), "schedule is 'constant'"),
        ({"steps": 9}, Regression(), "steps is 9"),
        ({"warmup_steps": 2}, Regression(), "warmup_steps is 2"),
        ({"max_grad_norm": 2.0}, Regression(), "max_grad_norm is 2.0"),
        ({"ema_decay": None}, Regression(), "ema_decay is None"),
        ({"identity": {"batch": 16}}, Regression(), "identity is {'batch': 16}, but .* was made with {'batch': 8}"),
        ({}, Regression(rate=0.1), "initial_lr of the optimizer of 'net' is 0.1, but .* was made with 0.05"),
        ({}, Regression(width=9), "part 'net' does not fit the weights"),
        ({}, Adversaries(), r"parts is \['g', 'd'\]"),
    ],
)
def test_a_run_is_not_resumed_with_what_would_change_its_result(changes, objective, words, tmp_path):
    settings = {"steps": 8, "schedule": "cosine", "ema_decay": 0.9, "save_every": 4, "identity": {"batch": 8}}
    fit(Regression(), batches, FitSettings(**settings), tmp_path)
    newest = tmp_path / "checkpoints" / "step_00000008"
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    with pytest.raises(ValueError, match=words) as refused:
        fit(objective, batches, FitSettings(**(settings | changes)), tmp_path)
    assert "\n" not in str(refused.value)


def test_what_may_change_may_change(tmp_path):
    fit(Regression(), batches, FitSettings(steps=4), tmp_path / "a")
    fit(Regression(), batches, FitSettings(steps=8, save_every=2, log_every=2, keep_checkpoints=1), tmp_path / "a")
    fit(Regression(), batches, FitSettings(steps=8), tmp_path / "b")
    assert_same(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))
    with pytest.raises(ValueError, match="steps must be at least 8.*not 5"):
        fit(Regression(), batches, FitSettings(steps=5), tmp_path / "a")
    with pytest.raises(ValueError, match="holds a run already"):
        fit(Regression(), batches, FitSettings(steps=8), tmp_path / "a", resume=False)


def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(OSError, match=r"output '.*file/run' cannot be written to \(Not a directory\)"):
        fit(Regression(), batches, FitSettings(steps=2), tmp_path / "file" / "run")


def test_a_full_disk_is_one_sentence_and_leaves_only_whole_checkpoints(tmp_path):
    """A limit on the size of files stands in for the full disk: the third checkpoint no longer fits."""

    class Growing(Regression):
        def loss(self, part, batch, generator):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
            return super().loss(part, batch, generator)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError) as refused:
            fit(Growing(width=100), batches, FitSettings(steps=5, save_every=1, keep_checkpoints=9), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(refused.value)
    assert "step_00000003' could not be written" in message and "last good checkpoint is" in message
    assert "step_00000002" in message and "\n" not in message
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step_00000001", "step_00000002"]


def test_batches_that_end_are_an_error():
    with pytest.raises(ValueError, match="batches ended in step 3 of 5"):
        fit(Regression(), lambda start, rank, world: iter([torch.ones(2, 4)] * 2), FitSettings(steps=5))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 0}, "steps must be at least 1.*not 0"),
        ({"schedule": "linear"}, "schedule must be 'constant' or 'cosine'.*not 'linear'"),
        ({"warmup_steps": 11}, "warmup_steps must be .*not 11"),
        ({"ema_decay": 1.0}, "ema_decay must be .*not 1.0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be .*not 0.0"),
        ({"seed": -1}, "seed must be .*not -1"),
        ({"keep_checkpoints": 0}, "keep_checkpoints must be .*not 0"),
        ({"identity": {"data": Path("here")}}, "identity must be what JSON can hold.*not .*Path.*"),
    ],
)
def test_settings_out_of_range_are_named(values, words):
    with pytest.raises(ValueError, match=words):
        FitSettings(**({"steps": 10} | values))


if __name__ == "__main__":
    for name in ["torch._dynamo", "matplotlib.font_manager", "pocket_diffusers.training.loop"]:
        importlib.import_module(name)  # once, for all the children
    for driver in ("fit", "train"):
        play_all(driver, Path(sys.argv[1]) / driver)
