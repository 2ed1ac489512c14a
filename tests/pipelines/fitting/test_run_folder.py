"""One run at a time writes to a folder."""

import errno
import os
import signal

import pytest
import torch
from torch import nn

from pocket_diffusers.pipelines.fitting import run_folder
from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit
from pocket_diffusers.pipelines.fitting.run_folder import RunFolder


class Untrained:
    """An objective that is refused before it learns."""

    def __init__(self):
        self.parts = {"net": nn.Linear(1, 1)}

    def optimizer(self, part):
        return torch.optim.SGD(self.parts[part].parameters(), lr=0.1)


def hold(folder):
    """A process that writes to `folder` until it is killed."""
    ready, written = os.pipe()
    child = os.fork()
    if child == 0:
        with RunFolder(folder).locked():
            os.write(written, b"1")
            signal.pause()
        os._exit(0)
    os.read(ready, 1)
    return child


def test_a_second_run_is_refused_until_the_first_is_dead(tmp_path):
    child = hold(tmp_path)
    try:
        with pytest.raises(OSError, match=rf"is being written by another run \(process {child}\); wait for it"):
            fit(Untrained(), None, FitSettings(steps=1), tmp_path)
        assert not list((tmp_path / "checkpoints").iterdir())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for _ in range(2):
        with RunFolder(tmp_path).locked():
            pass


def test_a_folder_that_cannot_be_locked_is_told_and_used(tmp_path, monkeypatch):
    def fail(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_folder, "take_lock", fail)
    told = pytest.warns(UserWarning, match="cannot be locked .No locks available.: start one run only")
    with told, RunFolder(tmp_path).locked():
        pass
