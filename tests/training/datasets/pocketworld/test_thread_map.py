import threading

import pytest
import torch

from pocket_diffusers.training.datasets.pocketworld.thread_map import map_in_threads


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_keep_the_order_of_the_parts(threads):
    assert map_in_threads(lambda part: part * part, range(20)) == [part * part for part in range(20)]


def test_parts_meet_in_threads_of_one_operation_thread_each(threads):
    meeting = threading.Barrier(threads)

    def work(part):
        meeting.wait(timeout=20)  # breaks unless as many threads are at work
        return torch.get_num_threads()

    assert map_in_threads(work, range(threads)) == [1] * threads
    assert torch.get_num_threads() == threads, "what the caller set is back"
    assert _in_new_thread(torch.get_num_threads) == threads, "and new threads start with it"


def test_an_error_reaches_the_caller_and_leaves_the_thread_count(threads):
    with pytest.raises(ZeroDivisionError):
        map_in_threads(lambda part: 1 / part, [1, 0, 2])
    assert torch.get_num_threads() == threads


def test_no_parts_give_no_results():
    assert map_in_threads(len, []) == []


def _in_new_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]
