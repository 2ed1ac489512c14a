import json

import numpy as np
import pytest

from pocket_diffusers.eval.scores.r_precision import POOL, r_precision


def places(swaps=()):
    """Texts at 0, 10, 20, ... on a line and motions 1 beside them; `swaps` exchange motions."""
    texts = 10.0 * np.arange(POOL)[:, None]
    motions = texts + 1
    for one, other in swaps:
        motions[[one, other]] = motions[[other, one]]
    return texts, motions


def test_all_texts_find_their_motions():
    found = r_precision(*places())
    assert (found.top_1, found.top_2, found.top_3) == (1.0, 1.0, 1.0)
    assert (found.matching_score, found.n, found.left_out, found.pool) == (1.0, 32, 0, 32)


def test_exchanged_motions_by_hand():
    """Places 4 and 5: each text has the other's motion nearest and its own second, at 11 and at 9.

    Places 0 and 2: text 0 has motions at 1, 11, 21, its own third; text 20 has 21, 11, 31 (a distance of 11), and its
    own at 1, 19 away: fourth.
    """
    found = r_precision(*places([(4, 5), (0, 2)]))
    assert found.top_1 == pytest.approx(28 / 32)
    # Text 50 is as near to 41 as 9; text 40 to 51 as 11, behind 41 (1) and 31 (9): third.
    assert found.top_2 == pytest.approx(29 / 32)
    assert found.top_3 == pytest.approx(31 / 32)
    assert found.matching_score == pytest.approx((28 * 1 + 11 + 9 + 21 + 19) / 32)


def test_a_tie_is_no_find():
    found = r_precision(np.zeros((32, 3)), np.ones((32, 3)))
    assert (found.top_1, found.top_2, found.top_3) == (0.0, 0.0, 0.0)
    assert found.matching_score == pytest.approx(3**0.5)
    texts, motions = places()
    motions[7] = motions[8] = 75.0  # both 5 away from texts 70 and 80
    assert r_precision(texts, motions).top_1 == pytest.approx(30 / 32)


def twin(texts, motions):
    hits, own = [0, 0, 0], []
    pools = len(texts) // 32
    for pool in range(pools):
        for i in range(32 * pool, 32 * pool + 32):
            distances = {j: sum((a - b) ** 2 for a, b in zip(texts[i], motions[j], strict=True)) ** 0.5
                         for j in range(32 * pool, 32 * pool + 32)}  # fmt: skip
            place = sorted(distances, key=distances.get).index(i)
            hits = [hit + (place < k) for k, hit in enumerate(hits, start=1)]
            own.append(distances[i])
    return [hit / (32 * pools) for hit in hits], sum(own) / len(own)


def test_agrees_with_its_twin_and_leaves_the_rest_out():
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(32 * 3 + 17, 4))
    motions = texts + rng.normal(size=texts.shape)
    found = r_precision(texts, motions)
    shares, score = twin(texts.tolist(), motions.tolist())
    assert [found.top_1, found.top_2, found.top_3] == pytest.approx(shares)
    assert found.matching_score == pytest.approx(score)
    assert (found.n, found.left_out) == (96, 17) and 0.1 < found.top_1 < found.top_2 < found.top_3 < 1
    motions[96:] += 1e6
    assert r_precision(texts, motions) == found
    record = found.to_record()
    assert json.loads(json.dumps(record)) == record


def test_equal_embeddings_far_from_the_origin_are_no_trouble():
    """Where the square is expanded, rounding makes the root of a negative number of these."""
    rng = np.random.default_rng(1)
    texts = 1e6 + 1e-3 * rng.normal(size=(32, 8))
    found = r_precision(texts, texts)
    assert (found.top_1, found.matching_score) == (1.0, 0.0)


def test_chance():
    rng = np.random.default_rng(2)
    texts, motions = rng.normal(size=(2, 32 * 100, 3))
    assert r_precision(texts, motions).top_3 == pytest.approx(3 / 32, abs=0.02)


@pytest.mark.parametrize(
    ("texts", "motions", "complaint"),
    [
        (np.zeros((31, 4)), np.zeros((31, 4)), r"texts is \[31, 4\] and motions \[31, 4\]; .*32 rows or more"),
        (np.zeros((40, 4)), np.zeros((40, 5)), r"texts is \[40, 4\] and motions \[40, 5\]; they must be alike"),
        (np.full((40, 4), np.nan), np.zeros((40, 4)), "texts holds numbers that are not finite"),
        (np.zeros((40, 4)), np.zeros(40), r"motions must be \[count, dim\]"),
    ],
)
def test_bad_embeddings(texts, motions, complaint):
    with pytest.raises(ValueError, match=complaint):
        r_precision(texts, motions)
