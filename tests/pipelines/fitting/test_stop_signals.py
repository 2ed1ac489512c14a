"""Ctrl-C and SIGTERM lose no step; what they do is what they did before."""

import signal
import threading

import pytest
import torch
from torch import nn

from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit, load_run
from pocket_diffusers.pipelines.fitting.stop_signals import StopSignals

SETTINGS = FitSettings(steps=9, save_every=1000, log_every=4, ema_decay=0.9)


class Interrupted:
    """A layer that learns; in the middle of step `at` a signal comes, so many times."""

    def __init__(self, at=0, number=signal.SIGINT, times=1):
        torch.manual_seed(0)
        self.at, self.number, self.times, self.calls = at, number, times, 0
        self.parts = {"net": nn.Linear(4, 1)}

    def optimizer(self, part):
        return torch.optim.AdamW(self.parts[part].parameters(), lr=0.1)

    def loss(self, part, batch, generator):
        self.calls += 1
        if self.calls == self.at:
            for _ in range(self.times):
                signal.raise_signal(self.number)
        return (self.parts[part](batch) + torch.randn(1, generator=generator)).square().mean(), {}

    def preview(self, modules):
        return None


def batches(start, rank, world):
    for item in range(start, 10**9):
        yield torch.randn(8, 4, generator=torch.Generator().manual_seed(item))


def weights(objective):
    return torch.cat([value.flatten() for value in objective.parts["net"].state_dict().values()])


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_the_step_that_a_signal_meets_is_done_and_saved(number, error, tmp_path, capsys):
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(error) as caught:
        fit(Interrupted(5, number), batches, SETTINGS, tmp_path / "stopped")
    if number == signal.SIGTERM:
        assert caught.value.code == 143
    assert "Stopped after step 5 of 9; all is saved" in capsys.readouterr().out
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    whole, resumed = Interrupted(), Interrupted()
    assert load_run(tmp_path / "stopped", {"net": nn.Linear(4, 1)}) == 5
    fit(whole, batches, SETTINGS, tmp_path / "whole")
    fit(resumed, batches, SETTINGS, tmp_path / "stopped")
    assert resumed.calls == 4 and torch.equal(weights(resumed), weights(whole))
    steps = [line.split(",")[0] for line in (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()]
    assert steps == ['{"step": 4', '{"step": 8', '{"step": 9']


def test_the_second_ctrl_c_acts_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(5, times=2), batches, SETTINGS, tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_run_without_a_folder_stops_too():
    objective = Interrupted(2)
    with pytest.raises(KeyboardInterrupt):
        fit(objective, batches, SETTINGS, progress=False)
    assert objective.calls == 2


def test_what_the_process_ignores_or_handles_itself_stays_so(tmp_path):
    seen = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        ignoring = Interrupted(3)
        fit(ignoring, batches, SETTINGS, tmp_path / "ignoring", progress=False)
        fit(Interrupted(3, signal.SIGTERM), batches, SETTINGS, tmp_path / "handling", progress=False)
    finally:
        signal.signal(signal.SIGINT, before[0]), signal.signal(signal.SIGTERM, before[1])
    assert ignoring.calls == 9 and seen == [1]
    assert load_run(tmp_path / "handling", {}) == 9


def test_another_thread_changes_nothing():
    handlers = []

    def enter():
        with StopSignals():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
