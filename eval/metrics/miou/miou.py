"""Mean intersection over union for `evaluate`, from exact counts, with absent classes named."""

import datasets
import evaluate

from pocket_diffusers.eval.scores.miou import mean_iou

DESCRIPTION = "Mean intersection over union of label maps over the classes that are present."
INPUTS = """
Args:
    predictions: label maps, whole numbers [height, width].
    references: label maps of the same sizes.
    classes: names in the order of their numbers, or how many there are.
    ignore_index: pixels of this number in a reference are not counted; None counts all.
    seed: of the bootstrap.
Returns:
    metric, value, miou, interval, iou, absent, pixel_accuracy, n, pixels, ignored.
"""


class MeanIoU(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        label_map = datasets.Sequence(datasets.Sequence(datasets.Value("int64")))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": label_map, "references": label_map}),
        )

    def _compute(self, predictions, references, classes, ignore_index=255, seed=0):
        return mean_iou(predictions, references, classes, ignore_index, seed).to_record()
