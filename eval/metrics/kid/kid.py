"""Kernel distance for `evaluate`, named after its feature extractor and its number of pictures."""

import datasets
import evaluate

from pocket_diffusers.eval.instruments.features import clip_features
from pocket_diffusers.eval.scores.feature_distance import distance_of_pictures
from pocket_diffusers.eval.scores.kid import kid

DESCRIPTION = "Unbiased kernel distance between the features of two sets of pictures, in float64; names the extractor."
INPUTS = """
Args:
    predictions: generated pictures, PIL images; or their features, a row each.
    targets: real pictures, or their features; any number of at least 2.
    model: for pictures: folder or Hub id of a transformers.CLIPModel, or the name of a checkpoint of Pocket Diffusers.
    extractor: for features: the name of what made them.
    subsets: how many subsets are drawn.
    subset_size: pictures of either set in each; by default half of the smaller set, at most 1000.
    seed: of the subsets.
Returns:
    metric, value, std, subsets, subset_size, n, n_reference, extractor, seed, protocol, protocol_hash.
"""
CITATION = """
@inproceedings{binkowski2018demystifying,
  title={Demystifying {MMD} {GANs}},
  author={Bi{\\'n}kowski, Miko{\\l}aj and Sutherland, Danica J. and Arbel, Michael and Gretton, Arthur},
  booktitle={ICLR},
  year={2018}
}
"""


class KID(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": datasets.Image()}),
        )

    def compute(self, *, predictions=None, extractor=None, **options):
        """The distance of pictures, or with `extractor` of the features that it made."""
        if extractor is None:
            return super().compute(predictions=predictions, **options)
        targets = options.pop("targets")
        return kid(predictions, targets, extractor, **options).to_record()

    def _compute(self, predictions, targets, model="clip-nano-judge", **options):
        return distance_of_pictures(kid, predictions, targets, clip_features(model), **options).to_record()
