import json
from io import StringIO
from pathlib import Path

import pytest

from pocket_diffusers.eval.timing.contender_process import (
    Work,
    build_work,
    forget_peak_memory,
    held_memory_mb,
    peak_memory_mb,
    serve,
)


def make_work(facts=None, fail_at=None):
    calls = []

    def call():
        calls.append(1)
        if len(calls) == fail_at:
            raise RuntimeError("out of\nluck")

    return Work(call, {"calls": calls} if facts is None else facts)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    import sys
    from types import ModuleType

    module = ModuleType("contenders_of_this_test")
    module.make_work, module.make_nothing, module.number = make_work, lambda: None, 1
    monkeypatch.setitem(sys.modules, module.__name__, module)


def replies_to(count, **arguments):
    replies = StringIO()
    order = {"build": "contenders_of_this_test:make_work", "arguments": arguments}
    serve(StringIO("call\n" * count), replies, order)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_one_warm_up_then_one_reply_a_line():
    first, *rest = replies_to(3)
    assert first == {"facts": {"calls": [1]}}, "the warm-up comes before the facts"
    assert [set(reply) for reply in rest] == [{"seconds", "peak_memory_mb"}] * 3
    assert all(reply["seconds"] >= 0 and reply["peak_memory_mb"] > 1 for reply in rest)


@pytest.mark.parametrize(("fail_at", "answered"), [(1, 0), (3, 2)])
def test_an_error_is_the_last_reply_in_one_line(fail_at, answered):
    replies = replies_to(5, fail_at=fail_at, facts={})
    assert len(replies) == answered + 1
    assert replies[-1] == {"error": "RuntimeError: out of luck"}


@pytest.mark.parametrize("build", ["contenders_of_this_test", "contenders_of_this_test:gone", ":", "json:loads"])
def test_what_builds_nothing_is_named(build):
    with pytest.raises((ValueError, TypeError)):
        build_work(build, {})
    with pytest.raises(ValueError, match="make_nothing returned NoneType; it must return Work"):
        build_work("contenders_of_this_test:make_nothing", {})
    with pytest.raises(ValueError, match="it must name a function as 'module:function'"):
        build_work("contenders_of_this_test:number", {})


def test_peak_memory_grows_with_what_is_held():
    before = peak_memory_mb()
    held = bytearray(b"x" * int((before + 50) * 1e6))
    assert peak_memory_mb() > before + 40
    del held
    assert peak_memory_mb() > before + 40
    if Path("/proc/self/clear_refs").exists():
        forget_peak_memory()
        assert peak_memory_mb() < before + 40


def test_what_is_held_now_falls_when_it_is_given_back():
    before = held_memory_mb()
    held = bytearray(b"x" * 50_000_000)
    assert before + 40 < held_memory_mb() <= peak_memory_mb() + 1
    del held
    if Path("/proc/self/status").exists():
        assert held_memory_mb() < before + 40
