from itertools import islice

import pytest
import torch
from PIL import Image

from pocket_diffusers.eval.benchmark import Benchmark, Run
from pocket_diffusers.eval.drawing import load_committed
from pocket_diffusers.eval.geneval.drawn import draw_prompts, drawn_rows, score_drawn
from pocket_diffusers.eval.scores.instance_f1 import ground_truth
from pocket_diffusers.eval.scores.retrieval import world_records
from pocket_diffusers.pipelines.outputs import Detections
from pocket_diffusers.training.datasets.pocketworld.descriptions import TAGS
from pocket_diffusers.training.datasets.pocketworld.prompts import load_prompts


class Eye:
    """Knows the first pictures of the test split by heart, and says of all others that they show a red cube."""

    name = weights = "ascan-nano-judge"

    def __init__(self):
        self.truth = {one.rgb.tobytes(): ground_truth(one) for one in islice(world_records("test", 16), 80)}

    def __call__(self, pictures):
        cube = Detections(("cube",), (0.95,), ((1, 1, 5, 5),), None, ("red",))
        return [self.truth.get(picture.tobytes(), cube) for picture in pictures]


@pytest.fixture
def quick():
    """A pipeline that draws nothing, in no time; it notes what it was asked for."""
    asked = []

    def pipeline(texts, generator, output_type):
        asked.extend(zip(texts, (one.initial_seed() for one in generator), strict=True))
        return type("Output", (), {"images": [Image.new("RGB", (16, 16))] * len(texts)})

    return pipeline, asked


def test_rows_are_shares_beside_those_of_the_truth(quick, tmp_path):
    run = Run(Benchmark("toy", None, {}), "geneval", tmp_path)
    rows = {row.id: row for row in drawn_rows(run, quick[0], Eye(), 1, 60, 16)}
    assert set(rows) == {f"geneval-{name.replace('_', '-')}" for name in ("overall", "share_of_truth", *TAGS)}
    # A red cube fits one of 5 single objects and one of 50 coloured ones.
    assert rows["geneval-single-object"].measured == pytest.approx(1 / 5)
    assert rows["geneval-colors"].measured == pytest.approx(1 / 50)
    assert rows["geneval-two-object"].measured == rows["geneval-position"].measured == 0
    assert rows["geneval-overall"].measured == pytest.approx((1 / 5 + 1 / 50) / 6, rel=1e-4)
    assert rows["geneval-overall"].rival_measured == 1 == rows["geneval-colors"].rival_measured
    assert rows["geneval-share-of-truth"].measured == rows["geneval-overall"].measured
    assert rows["geneval-overall"].n == len(load_prompts())
    assert "geneval_pocketworld_1_images" in rows["geneval-overall"].claim, "fewer pictures are another metric"


def test_a_complete_run_has_the_metrics_own_name(quick):
    pipeline, asked = quick
    score = score_drawn(pipeline, Eye(), None)
    assert score.metric == "geneval_pocketworld" and score.failed == 0
    assert score.scored == len(asked) == sum(prompt["n_images"] for prompt in load_prompts())
    assert len({seed for _, seed in asked}) == len(asked), "each picture has noise of its own"


def test_pictures_belong_to_their_prompts(checkpoints):
    pipeline = load_committed("snapgen", checkpoints / "snapgen-nano")
    prompts = [{**load_prompts()[number], "n_images": 2} for number in (0, 1)]
    drawn = list(draw_prompts(pipeline, prompts))
    assert [metadata for metadata, _ in drawn] == [prompts[0], prompts[0], prompts[1], prompts[1]]
    alone = pipeline(prompts[1]["prompt"], generator=torch.Generator().manual_seed(10_001)).images[0]
    difference = max(abs(a - b) for a, b in zip(alone.tobytes(), drawn[3][1].tobytes(), strict=True))
    assert difference <= 1, "prompt 1, picture 1"
