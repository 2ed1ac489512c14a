"""Work on many parts at once, where torch's own threads inside one part would wait for each other."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def map_in_threads(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """`[work(part) for part in parts]` in as many threads as torch may use, each with operations of one thread.

    Small tensor operations gain little from threads of their own; whole parts side by side gain nearly all there is.
    Gradient modes belong to a thread, so `work` has to set its own.
    """
    threads = torch.get_num_threads()
    if min(threads, len(parts)) < 2:
        return [work(part) for part in parts]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(threads)  # new threads would start with what was set last, in whatever thread
