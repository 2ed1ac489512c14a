"""Frechet distance for `evaluate`, named after its feature extractor and its number of pictures."""

import datasets
import evaluate

from pocket_diffusers.eval.instruments.features import clip_features
from pocket_diffusers.eval.scores.feature_distance import distance_of_pictures
from pocket_diffusers.eval.scores.fid import fid

DESCRIPTION = "Frechet distance between the features of two sets of pictures, in float64; names what made the features."
INPUTS = """
Args:
    predictions: generated pictures, PIL images; or their features, a row each.
    targets: real pictures, or their features; any number of at least 2.
    model: for pictures: folder or Hub id of a transformers.CLIPModel, or the name of a checkpoint of Pocket Diffusers.
    extractor: for features: the name of what made them.
    compat: "fixed", or "official" for the protocol of text2image-benchmark.
Returns:
    metric, value, eigenvalue_form, n, n_reference, dim, singular, extractor, compat, protocol, protocol_hash.
"""
CITATION = """
@inproceedings{heusel2017gans,
  title={{GANs} Trained by a Two Time-Scale Update Rule Converge to a Local {Nash} Equilibrium},
  author={Heusel, Martin and Ramsauer, Hubert and Unterthiner, Thomas and Nessler, Bernhard and Hochreiter, Sepp},
  booktitle={NeurIPS},
  year={2017}
}
"""


class FID(evaluate.Metric):
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
        return fid(predictions, targets, extractor, **options).to_record()

    def _compute(self, predictions, targets, model="clip-nano-judge", **options):
        return distance_of_pictures(fid, predictions, targets, clip_features(model), **options).to_record()
