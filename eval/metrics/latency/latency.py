"""Latency for `evaluate`: the median time of a call."""

import datasets
import evaluate

from pocket_diffusers.eval.scores.latency import measure_latency

DESCRIPTION = "Median time of a call, such as one of a pipeline, with its interval; the first calls do not count."
INPUTS = """
Args:
    call: something that is called without arguments, such as `lambda: pipeline("a red cube")`.
    repeats: timed calls.
    warmup: calls before them.
Returns:
    latency_ms, interval, n, warmup, hardware.
"""


class Latency(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="", inputs_description=INPUTS, features=datasets.Features({})
        )

    def compute(self, *, call, repeats=5, warmup=1):
        """Time a call."""
        return self._compute(call, repeats, warmup)

    def _compute(self, call, repeats=5, warmup=1):
        return measure_latency(call, repeats, warmup).to_record()
