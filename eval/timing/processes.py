"""Calls in processes of their own, a few at a time, each with few threads: what takes long and needs no second core."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def call_in_processes(
    call: Callable[..., Result], jobs: Iterable[Sequence[Any]], processes: int, threads: int = 1
) -> Iterator[Result]:
    """`call(*job)` of each job, in the order in which they are done.

    No more jobs are handed over than there are processes, so that after an interruption none begins.

    Args:
        call: a function of a module; it, its arguments and its result can be pickled.
        jobs: arguments of each call.
        processes: at work at once, at least 1.
        threads: of each.

    Raises:
        Exception: what a call raises, once those that are under way have ended.
    """
    waiting, running = iter(jobs), set()
    spawn = get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(processes, spawn, torch.set_num_threads, (threads,)) as pool:
        while True:
            running |= {pool.submit(call, *job) for job in islice(waiting, processes - len(running))}
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for one in finished:
                yield one.result()
