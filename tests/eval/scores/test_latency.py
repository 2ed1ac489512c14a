from time import sleep

import pytest

from pocket_diffusers.eval.scores.latency import measure_latency


def test_warm_up_does_not_count_and_the_median_does():
    waits = iter([0.2, 0.01, 0.1, 0.01])
    found = measure_latency(lambda: sleep(next(waits)), repeats=3)
    assert 10 <= found.latency_ms < 100 and (found.n, found.warmup) == (3, 1)
    low, high = found.interval
    assert 10 <= low <= found.latency_ms <= high
    assert "threads" in found.hardware
    record = measure_latency(lambda: None, repeats=1, warmup=0).to_record()
    assert record["interval"] is None and record["latency_ms"] >= 0


def test_what_cannot_be_timed_is_said():
    with pytest.raises(ValueError, match="call must be something that can be called.*not 3"):
        measure_latency(3)
    for numbers in ({"repeats": 0}, {"warmup": -1}):
        with pytest.raises(ValueError, match="repeats is .* and warmup is"):
            measure_latency(lambda: pytest.fail("called"), **numbers)
