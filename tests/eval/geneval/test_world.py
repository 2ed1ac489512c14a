from itertools import islice

import pytest

from pocket_diffusers.eval.geneval.rules import judge_picture
from pocket_diffusers.eval.geneval.world import (
    chance_level,
    detect_records,
    of_few,
    own_metadata,
    score_found,
    shuffled,
)
from pocket_diffusers.eval.scores.instance_f1 import ground_truth
from pocket_diffusers.eval.scores.retrieval import world_records
from pocket_diffusers.pipelines.outputs import Detections
from pocket_diffusers.training.datasets.pocketworld.descriptions import TAGS

NOTHING = Detections((), (), (), None, ())


class Eye:
    """Sees what it is told."""

    name, weights = "ascan-nano-judge", None

    def __init__(self, records, found=ground_truth):
        self.seen = {record.rgb.tobytes(): found(record) for record in records}

    def __call__(self, pictures):
        return [self.seen.get(picture.tobytes(), NOTHING) for picture in pictures]


@pytest.fixture(scope="module")
def records():
    return list(islice(world_records("test", 16), 60))


def test_a_perfect_detector_scores_one_and_a_blind_one_zero(records):
    metadata = list(map(own_metadata, records))
    assert len({one["prompt"] for one in metadata}) == 60, "each picture is a prompt of its own"
    found = detect_records(records, Eye(records))
    score = score_found(metadata, found, Eye([]))
    assert (score.overall, score.interval, score.scored) == (1, (1, 1), 60)
    assert score.metric == "geneval_pocketworld_pictures" and set(score.tags) == set(TAGS)
    assert score_found(metadata, [NOTHING] * 60, Eye([])).overall == 0


def test_overall_is_the_mean_over_tags(records):
    blind = Eye(records, lambda record: NOTHING if record.description.tag == "counting" else ground_truth(record))
    score = score_found(list(map(own_metadata, records)), detect_records(records, blind), blind)
    assert score.overall == pytest.approx(5 / 6)


def test_shuffled_metadata_all_change_places():
    metadata = [{"prompt": str(number)} for number in range(7)]
    for seed in range(5):
        moved = shuffled(metadata, seed)
        assert sorted(one["prompt"] for one in moved) == list("0123456")
        assert all(one != other for one, other in zip(moved, metadata, strict=True))
    assert shuffled(metadata, 0) != shuffled(metadata, 1)
    with pytest.raises(ValueError, match="metadata has 1 entries"):
        shuffled(metadata[:1], 0)


def test_chance_is_the_mean_over_all_wrong_pairs(records):
    few = records[:12]
    metadata, found = list(map(own_metadata, few)), list(map(ground_truth, few))
    shares = {}
    for i, asked in enumerate(metadata):
        for k, other in enumerate(found):
            if i != k:
                shares.setdefault(asked["tag"], []).append(judge_picture(asked, other).correct)
    expected = sum(sum(each) / len(each) for each in shares.values()) / len(shares)
    assert chance_level(metadata, found) == pytest.approx(expected)
    assert expected < 0.5
    many = sum(score_found(shuffled(metadata, seed), found, Eye([])).overall for seed in range(40)) / 40
    assert many == pytest.approx(expected, abs=0.1)


def test_pictures_of_many_objects_are_left_out(records):
    counts = [record.description.include[0].count for record in of_few(records, 4)]
    assert max(counts) <= 4 and len(counts) < len(records) and counts
