import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pocket_diffusers.eval.timing import contest as runner
from pocket_diffusers.eval.timing.contender_process import peak_memory_mb
from pocket_diffusers.eval.timing.contest import Contender, Measurement, run_contenders, speedup

CONTENDERS = """
import os, time
from pocket_diffusers.eval.timing.contender_process import Work

def note(log, name):
    print("a library that prints")
    with open(log, "a") as file:
        file.write(f"{name} {os.getpid()} {os.environ['OMP_NUM_THREADS']}\\n")

def sleep(log, name, seconds=0.0, megabytes=0):
    held = b"x" * (megabytes * 10**6)
    return Work(lambda: (note(log, name), time.sleep(seconds), held), {"held": len(held)})

def fail(log, name, call):
    calls = []
    def work():
        calls.append(note(log, name))
        if len(calls) == call:
            raise RuntimeError("no luck")
    return Work(work)

def die(log, name):
    return Work(lambda: os._exit(3))
"""


@pytest.fixture
def contender(tmp_path, monkeypatch):
    (tmp_path / "contenders_for_runner.py").write_text(CONTENDERS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def make(name, function="sleep", memory_gb=0.0, **arguments):
        arguments = {"log": str(tmp_path / "log"), "name": name, **arguments}
        build = f"contenders_for_runner:{function}"
        return Contender(name=name, build=build, arguments=arguments, memory_gb=memory_gb)

    return make


def calls(tmp_path):
    return [line.split() for line in (tmp_path / "log").read_text().splitlines()]


def test_contenders_take_turns_each_in_its_own_process(contender, tmp_path):
    told = []
    found = run_contenders(
        [contender("a", seconds=0.02), contender("b", seconds=0.08)], 3, 1, tmp_path / "run.json", told.append
    )
    names, processes, threads = zip(*calls(tmp_path), strict=True)
    assert "".join(names) == "aabbabab", "a warm-up each, then by turns"
    assert len(set(zip(names, processes, strict=True))) == 2 and str(os.getpid()) not in processes
    assert set(threads) == {"1"}
    slow, quick = found[1], found[0]
    assert [len(one.seconds) for one in found] == [3, 3] and slow.median_seconds >= 0.08 > quick.median_seconds
    assert quick.interval[0] <= quick.median_seconds <= quick.interval[1]
    times, (low, high) = speedup(quick, slow)
    assert times == sorted(b / a for a, b in zip(quick.seconds, slow.seconds, strict=True))[1]
    assert 1 < low <= times <= high
    assert told[:3] == ["a, call 1 of 3", "b, call 1 of 3", "a, call 2 of 3"]


def test_memory_is_the_contender_s_own(contender, tmp_path):
    held = b"x" * 200_000_000  # of this process, which must not count
    small, large = run_contenders([contender("small"), contender("large", megabytes=100)], 1, 1, tmp_path / "run.json")
    assert peak_memory_mb() > len(held) / 1e6 > small.peak_memory_mb + 50
    assert large.peak_memory_mb - small.peak_memory_mb == pytest.approx(100, abs=15)
    assert large.facts == {"held": 100_000_000}


def test_those_that_do_not_fit_together_have_a_process_for_each_call(contender, tmp_path):
    run_contenders([contender("a", memory_gb=1e6), contender("b")], 2, 1, tmp_path / "run.json")
    names, processes, _ = zip(*calls(tmp_path), strict=True)
    assert "".join(names) == "aabbaabb" and len(set(processes)) == 4


def test_failures_are_recorded_and_the_others_go_on(contender, tmp_path):
    entrants = [
        contender("late", "fail", call=3),
        contender("dead", "die"),
        contender("gone", "no_such"),
        contender("fine"),
    ]
    late, dead, gone, fine = run_contenders(entrants, 3, 1, tmp_path / "run.json")
    assert late.error == "RuntimeError: no luck" and len(late.seconds) == 1
    assert dead.error.startswith("its process ended with status 3") and dead.seconds == ()
    assert "must name a function" in gone.error
    assert fine.error is None and len(fine.seconds) == 3
    stored = json.loads((tmp_path / "run.json").read_text())
    assert [one["error"] is None for one in stored["measurements"]] == [False, False, False, True]
    assert (stored["threads"], stored["repeats"]) == (1, 3) and stored["versions"]["torch"]
    with pytest.raises(ValueError, match="dead could not be measured"):
        speedup(fine, dead)


def test_a_contender_that_the_system_ends_while_it_waits_has_failed(contender, tmp_path):
    """Where memory ends, the system kills the largest process, though it waits for its turn."""

    def kill(text):
        if text == "idle, call 2 of 3":
            (process,) = {int(process) for name, process, _ in calls(tmp_path) if name == "idle"}
            os.kill(process, signal.SIGKILL)
            while "(zombie)" not in Path(f"/proc/{process}/status").read_text():
                time.sleep(0.01)

    idle, fine = run_contenders([contender("idle"), contender("fine")], 3, 1, tmp_path / "run.json", kill)
    assert idle.error.startswith("its process ended with status -9") and len(idle.seconds) == 1
    assert fine.error is None and len(fine.seconds) == 3


def test_a_contender_without_a_process_has_failed(contender, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(runner.subprocess, "Popen", refuse)
    (found,) = run_contenders([contender("a")], 3, 1, tmp_path / "run.json")
    assert found.error == "its process could not be started: [Errno 12] Cannot allocate memory."


def test_a_contender_that_does_not_answer_is_ended(contender, tmp_path):
    (slow,) = run_contenders([contender("slow", seconds=60)], 2, 1, tmp_path / "run.json", timeout=1.0)
    assert slow.error == "it did not answer within 1 s."
    (_, process, _), *others = calls(tmp_path)
    assert not others
    with pytest.raises(ProcessLookupError):
        os.kill(int(process), 0)


def test_an_interrupted_run_goes_on_with_what_is_missing(contender, tmp_path):
    path = tmp_path / "run.json"
    entrants = [contender("a"), contender("b")]

    def interrupt(text):
        if text == "b, call 2 of 3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_contenders(entrants, 3, 1, path, interrupt)
    first = json.loads(path.read_text())["measurements"]
    assert [len(one["seconds"]) for one in first] == [2, 1]
    told = []
    found = run_contenders(entrants, 3, 1, path, told.append)
    assert told == ["b, call 2 of 3", "a, call 3 of 3", "b, call 3 of 3"]
    assert found[0].seconds[:2] == tuple(first[0]["seconds"])
    told.clear()
    assert run_contenders(entrants, 3, 1, path, told.append) == found and told == []
    run_contenders([entrants[0], contender("b", seconds=0.01)], 3, 1, path, told.append)
    assert told == ["b, call 1 of 3", "b, call 2 of 3", "b, call 3 of 3"], "other arguments are another contender"
    told.clear()
    run_contenders(entrants, 2, 1, path, told.append)
    assert len(told) == 4, "another protocol is another run"


def test_a_failed_contender_is_tried_again(contender, tmp_path):
    entrants = [contender("late", "fail", call=3)]
    for finished in (1, 2):
        (found,) = run_contenders(entrants, 2, 1, tmp_path / "run.json")
        assert len(found.seconds) == finished
    assert found.error is None


def test_bad_requests_are_said_before_anything_starts(contender, tmp_path, monkeypatch):
    monkeypatch.setattr(runner.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    path = tmp_path / "run.json"
    for repeats, threads in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match=f"repeats is {repeats} and threads is {threads}; both must be at least 1"):
            run_contenders([contender("a")], repeats, threads, path)
    with pytest.raises(ValueError, match="contenders are called a, a; their names must differ"):
        run_contenders([contender("a"), contender("a")], 1, 1, path)
    assert not path.exists()
    path.write_text("[]")
    with pytest.raises(ValueError, match="is no record of a run"):
        run_contenders([contender("a")], 1, 1, path)


def test_a_single_call_has_no_interval():
    one = Measurement(name="a", build="b:c", arguments={}, seconds=(2.0,))
    assert one.median_seconds == 2.0 and one.interval is None
    assert speedup(one, one) == (1.0, None)


def test_a_contender_works_in_its_folder_and_with_its_python(contender, tmp_path):
    (tmp_path / "inside").mkdir()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho used > {tmp_path}/python-was-used\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    one = replace(contender("a"), folder=tmp_path / "inside", python=python)
    one = replace(one, arguments={**one.arguments, "log": "log"})
    (found,) = run_contenders([one], 1, 1, tmp_path / "run.json")
    assert found.error is None and (tmp_path / "inside" / "log").is_file()
    assert (tmp_path / "python-was-used").is_file()
    assert str(tmp_path) not in (tmp_path / "run.json").read_text(), "a record is the same wherever it is made"
