"""CLIP score for `evaluate`: how well pictures fit their captions, by a CLIP model that the result names."""

import datasets
import evaluate

from pocket_diffusers.eval.scores.clip_score import ClipScorer

DESCRIPTION = "Mean cosine between the CLIP embeddings of pictures and of their captions; names backbone and scale."
INPUTS = """
Args:
    predictions: pictures, PIL images.
    references: their captions, texts.
    model: folder or Hub id of a transformers.CLIPModel, or the name of a checkpoint of Pocket Diffusers.
    compat: "fixed", or "official" for the protocol of text2image-benchmark.
Returns:
    clip_score, interval, backbone, scale, compat, n, truncated.
"""
CITATION = """
@inproceedings{hessel2021clipscore,
  title={{CLIPScore}: A Reference-free Evaluation Metric for Image Captioning},
  author={Hessel, Jack and Holtzman, Ari and Forbes, Maxwell and Le Bras, Ronan and Choi, Yejin},
  booktitle={EMNLP},
  year={2021}
}
"""


class CLIPScore(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Image(), "references": datasets.Value("string")}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references, model="clip-nano-judge", compat="fixed"):
        return ClipScorer(model, compat).score(predictions, references).to_record()
