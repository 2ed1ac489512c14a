"""Calls in other processes."""

import operator
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pocket_diffusers.eval.timing.processes import call_in_processes


def test_jobs_are_handed_over_one_by_one_until_one_fails():
    begun, found = [], []

    def jobs():
        for number in (1, 2, 0, 3, 4):
            begun.append(number)
            yield 6, number

    with pytest.raises(ZeroDivisionError):
        found.extend(call_in_processes(operator.truediv, jobs(), 1))
    assert begun == [1, 2, 0] and found == [6, 3]
    assert list(call_in_processes(operator.truediv, [], 2)) == []


ENDLESS = """
import os, time
from pathlib import Path
from pocket_diffusers.eval.timing.processes import call_in_processes

def wait(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    list(call_in_processes(wait, [("pid",)], 1))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="asks whether a process is there by a signal")
def test_workers_end_with_a_process_that_is_killed(tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    parent = subprocess.Popen([sys.executable, "endless.py"], cwd=tmp_path)
    try:
        wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
    finally:
        parent.kill()
        parent.wait()
    worker = int((tmp_path / "pid").read_text())
    assert worker != parent.pid
    wait_for(lambda: not is_running(worker))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def is_running(process):
    """A process that ended, but that nobody asked for its status, is not."""
    status = Path(f"/proc/{process}/stat")
    try:
        os.kill(process, 0)
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
