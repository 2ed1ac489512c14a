"""How nano models' pictures are rated, with drawing and detectors faked."""

from collections import Counter
from dataclasses import replace

import pytest
from faked_scores_bitsfusion import CLIP, drawn
from PIL import Image

from pocket_diffusers.eval.benchmark import Benchmark, Run
from pocket_diffusers.eval.claims.bitsfusion import pictures
from pocket_diffusers.eval.claims.bitsfusion.pictures import Raters
from pocket_diffusers.eval.claims.bitsfusion.settings import Settings
from pocket_diffusers.pipelines.outputs import Detections
from pocket_diffusers.training.datasets.pocketworld.prompts import load_prompts


@pytest.fixture
def faked(monkeypatch):
    """Pictures of one colour for each prompt, a detector that sees a red cube in all, and a CLIP that counts."""
    seen = {}
    cube = Detections(("cube",), (0.95,), ((1, 1, 5, 5),), None, ("red",))

    class Eye:
        name = weights = "ascan-nano-judge"

        def __init__(self, folder):
            seen["detector"] = folder

        def __call__(self, shown):
            return [cube for _ in shown]

    class Scorer:
        def __init__(self, folder):
            seen["clip"] = folder

        def score(self, shown, texts):
            seen["texts"] = texts
            return replace(CLIP, clip_score=0.25, n=len(shown))

    def draw_prompts(pipeline, prompts):
        assert pipeline == "a pipeline"
        for prompt in prompts:
            for _ in range(prompt["n_images"]):
                yield prompt, Image.new("RGB", (8, 8))

    monkeypatch.setattr(pictures, "JudgeDetector", Eye)
    monkeypatch.setattr(pictures, "ClipScorer", Scorer)
    monkeypatch.setattr(pictures, "draw_prompts", draw_prompts)
    return seen


def test_pictures_of_every_prompt_are_rated_by_instruments_that_taught_none(faked, tmp_path):
    listed = load_prompts()
    found = Raters(Settings(checkpoints=tmp_path), 1).rate("a pipeline")
    assert (faked["detector"], faked["clip"]) == (tmp_path / "ascan-nano-judge", tmp_path / "clip-nano-judge")
    assert faked["texts"] == [one["prompt"] for one in listed]
    assert found.geneval.scored == found.clip.n == len(listed)
    assert found.geneval.metric.startswith("geneval_pocketworld_1_images")
    alone = [one for one in listed if one["tag"] == "single_object"]
    cubes = [one for one in alone if one["include"][0]["class"] == "cube"]
    assert found.geneval.tags["single_object"].score == pytest.approx(len(cubes) / len(alone))
    whole = Raters(Settings(checkpoints=tmp_path), None).rate("a pipeline")
    assert whole.geneval.metric.startswith("geneval_pocketworld") and "_images" not in whole.geneval.metric
    assert Counter(faked["texts"]) == Counter(one["prompt"] for one in listed for _ in range(one["n_images"]))


def test_rows_hold_few_bits_to_full_precision(monkeypatch, tmp_path):
    scores = {"bitsfusion-nano-full": drawn(0.8, 0.31), "bitsfusion-nano": drawn(0.79, 0.3)}

    class Raters:
        def __init__(self, settings, images):
            assert images == 3

        def rate(self, pipeline):
            return scores[pipeline]

    monkeypatch.setattr(pictures, "Raters", Raters)
    monkeypatch.setattr(pictures, "load_committed", lambda slug, folder: folder.name)
    settings = Settings(checkpoints=tmp_path, geneval_images=3)
    run = Run(Benchmark("bitsfusion", settings, {}), "pictures", tmp_path)
    rows = {row.id: row for row in pictures.measure_pictures(settings, run)}
    assert [(one, rows[one].measured, rows[one].rival_measured) for one in rows] == [
        ("geneval-full", 0.8, None),
        ("clip-full", 0.31, None),
        ("geneval-packed", 0.79, 0.8),
        ("clip-packed", 0.3, 0.31),
    ]
    assert rows["geneval-packed"].target == pytest.approx(0.784) and rows["geneval-packed"].passed
    assert rows["clip-packed"].target is None and "clip-nano-judge" in rows["clip-packed"].claim
    assert (rows["geneval-full"].n, rows["geneval-full"].interval) == (9, (0.8, 0.8))
