from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from pocket_diffusers.eval.claims.ascan import geneval as geneval_ascan
from pocket_diffusers.eval.claims.ascan.geneval import NOTHING, Named, best_pair, count_named, only_pair, single_objects
from pocket_diffusers.eval.scores.instance_f1 import ground_truth
from pocket_diffusers.eval.scores.retrieval import world_records
from pocket_diffusers.pipelines.outputs import Detections


@dataclass
class Settings:
    checkpoints: Path = Path("nowhere")
    true_pictures: int = 48
    shuffles: int = 3
    chance_pictures: int = 48
    world_size: int = 16


def found(*objects):
    """(score, color, shape) each."""
    scores, colors, labels = zip(*objects, strict=True) if objects else ((),) * 3
    return Detections(labels, scores, ((0, 0, 1, 1),) * len(labels), None, colors)


RED = ("red", "cube")


@pytest.mark.parametrize(
    ("seen", "named", "alone", "best"),
    [
        (found((0.9, "red", "cube")), 1, 1, RED),
        (found((0.9, "red", "cube"), (0.8, "blue", "torus")), 1, 0, RED),
        (found((0.5, "red", "cube"), (0.8, "blue", "torus")), 1, 0, ("blue", "torus")),
        (found((0.9, "red", "cube"), (0.2, "blue", "torus")), 1, 1, RED),
        (found((0.5, "red", "cube"), (0.9, "blue", "cube")), 0, 0, ("blue", "cube")),  # the surest cube is blue
        (found((0.2, "red", "cube")), 0, 0, NOTHING),
        (found(), 0, 0, NOTHING),
    ],
)
def test_what_a_picture_counts_as(seen, named, alone, best):
    assert count_named([seen], [RED]) == Named(named, alone, 1)
    assert best_pair(seen) == best
    assert (only_pair(seen) == RED) == bool(alone)


def test_single_objects_of_the_test_split():
    for record in islice(single_objects(16), 8):
        assert len(record.scene.objects) == 1
        pair = geneval_ascan.shown_pair(record)
        assert count_named([ground_truth(record)], [pair]) == Named(1, 1, 1)


def test_a_perfect_judge_finds_the_truth_and_shuffled_captions_fall_to_chance(monkeypatch):
    records = list(islice(world_records("test", 16), 48))
    truth = {record.rgb.tobytes(): ground_truth(record) for record in records}

    class Eye:
        name = weights = "ascan-nano-judge"

        def __init__(self, folder):
            assert folder == Path("nowhere/ascan-nano-judge")

        def __call__(self, pictures):
            return [truth[picture.tobytes()] for picture in pictures]

    monkeypatch.setattr(geneval_ascan, "JudgeDetector", Eye)
    rows = {row.id: row for row in geneval_ascan.measure_geneval(Settings(), None)}
    assert rows["geneval-truth"].measured == 1 and rows["geneval-truth"].passed
    assert {rows[f"geneval-truth-{tag}"].measured for tag in ("colors", "color-attr", "two-object")} == {1}
    assert sum(row.n for id, row in rows.items() if id.startswith("geneval-truth-")) == 48
    shuffled = rows["geneval-shuffled"]
    assert 0 < shuffled.rival_measured < 0.4 and abs(shuffled.measured - shuffled.rival_measured) < 0.1
    assert rows["geneval-shuffled-distance"].measured == pytest.approx(
        abs(shuffled.measured - shuffled.rival_measured), abs=1e-5
    )
