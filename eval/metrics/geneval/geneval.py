"""GenEval for `evaluate`: do pictures show the objects, counts, colours and places that their prompts ask for?"""

import json

import datasets
import evaluate

from pocket_diffusers.eval.geneval.replay import SeenPicture, read_seen
from pocket_diffusers.eval.geneval.score import OFFICIAL, pocketworld_protocol, score_pictures

DESCRIPTION = "Share of pictures that show what their prompts ask for, by GenEval's rules on stored detections."
INPUTS = """
Args:
    predictions: what a detector found in each picture, as JSON texts: {"labels", "scores", "boxes", "masks", "colors"}.
    references: the metadata of each picture's prompt, as JSON texts: {"tag", "include", "exclude", "prompt"}.
    path: instead of both, a file of stored detections.
    protocol: "official", or "pocketworld" for PocketWorld's own prompt list.
    detector: short name of the detector, which becomes part of the metric's; not with a path.
    weights: its Hub id or checkpoint; not with a path.
    compat: "fixed", or "official" for the mean that GenEval's own summary_scores.py takes.
    allow_failures: score an incomplete run, and count what is missing.
    seed: of the bootstrap.
Returns:
    metric, value, interval, tags, images_correct, prompts_correct, compat, protocol, protocol_hash, prompts_hash,
    detector, weights, asked, scored, failed, seed.
"""
CITATION = """
@inproceedings{ghosh2023geneval,
  title={{GenEval}: An Object-Focused Framework for Evaluating Text-to-Image Alignment},
  author={Ghosh, Dhruba and Hajishirzi, Hannaneh and Schmidt, Ludwig},
  booktitle={NeurIPS Datasets and Benchmarks},
  year={2023}
}
"""
PROTOCOLS = {"official": lambda: OFFICIAL, "pocketworld": pocketworld_protocol}


class GenEval(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(features),
        )

    def compute(self, *, predictions=None, references=None, path=None, **options):
        """Score detections, or with `path` the stored ones."""
        if path is None:
            return super().compute(predictions=predictions, references=references, **options)
        return _score(read_seen(path), **options)

    def _compute(self, predictions, references, detector, weights=None, **options):
        found = [{"masks": None, "colors": None, **json.loads(text)} for text in predictions]
        asked = map(json.loads, references)
        pictures = [
            SeenPicture.from_dict({"metadata": metadata, "detector": detector, "weights": weights, "detections": each})
            for metadata, each in zip(asked, found, strict=True)
        ]
        return _score(pictures, **options)


def _score(pictures, protocol="official", **options):
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}.")
    return score_pictures(pictures, PROTOCOLS[protocol](), **options).to_record()
