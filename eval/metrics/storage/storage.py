"""Storage for `evaluate`: bytes on disk and bits for each parameter."""

import datasets
import evaluate

from pocket_diffusers.eval.scores.storage import measure_storage

DESCRIPTION = "What a model repository or an exported bundle takes on disk, and how many bits for each parameter."
INPUTS = """
Args:
    path: folder or file.
    parameters: numbers that the weights stand for; counted in safetensors files if left out.
Returns:
    bytes, weight_bytes, parameters, bits_per_parameter, files.
"""


class Storage(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="", inputs_description=INPUTS, features=datasets.Features({})
        )

    def compute(self, *, path, parameters=None):
        """Add up what is on disk."""
        return self._compute(path, parameters)

    def _compute(self, path, parameters=None):
        return measure_storage(path, parameters).to_record()
