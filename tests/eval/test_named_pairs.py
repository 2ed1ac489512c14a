"""Which pictures of pairs a judge names as asked."""

from types import SimpleNamespace

import torch

from pocket_diffusers.eval.named_pairs import named_right
from pocket_diffusers.eval.scores.naming import pair_prompt
from pocket_diffusers.training.datasets.pocketworld.scene import HELD_OUT_PAIRS, SEEN_PAIRS


def test_pictures_of_pairs_seen_in_training_are_named():
    """A pipeline that draws the number of its prompt, and a judge that reads it but is wrong about cubes."""
    prompts = [pair_prompt(pair) for pair in SEEN_PAIRS]

    def pipeline(texts, generator, **_):
        numbers = torch.tensor([prompts.index(text) / 100 for text in texts])
        return SimpleNamespace(images=numbers[:, None, None, None].expand(-1, 3, 2, 2))

    def name(pictures):
        pairs = [SEEN_PAIRS[round(100 * picture.mean().item())] for picture in pictures]
        return [(color, "cone" if shape == "cube" else shape) for color, shape in pairs]

    cubes = sum(shape == "cube" for _, shape in SEEN_PAIRS)
    score = named_right(SimpleNamespace(name=name), pipeline, 3)
    assert (score.value, score.pictures) == ((40 - cubes) / 40, 120) and score.interval[0] < score.value
    assert cubes and len(SEEN_PAIRS) == 40 and not HELD_OUT_PAIRS & set(SEEN_PAIRS)
