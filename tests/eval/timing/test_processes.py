"""Calls in other processes."""

import operator
import os

import pytest

from pocket_diffusers.eval.timing.processes import call_in_processes


def test_results_come_from_other_processes():
    found = list(call_in_processes(operator.mul, [(number, 3) for number in range(5)], 2))
    assert sorted(found) == [0, 3, 6, 9, 12]
    assert os.getpid() not in call_in_processes(os.getpid, [()], 1)
    assert list(call_in_processes(os.getpid, [], 2)) == []


def test_what_a_call_raises_ends_all_before_another_job_begins():
    begun = []

    def jobs():
        for number in (1, 0, 2, 3, 4):
            begun.append(number)
            yield 6, number

    with pytest.raises(ZeroDivisionError):
        list(call_in_processes(operator.truediv, jobs(), 1))
    assert begun == [1, 0]
