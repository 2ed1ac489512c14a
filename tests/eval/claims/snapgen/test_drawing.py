"""What the benchmark draws depends on the pair and the seed, and on nothing that is drawn beside it."""

import pytest
import torch

from pocket_diffusers.eval.claims.snapgen.benchmark import Settings
from pocket_diffusers.eval.claims.snapgen.drawing import GUIDANCE, STEPS, draw_pairs, load_nano
from pocket_diffusers.eval.scores.naming import pair_prompt
from pocket_diffusers.training.datasets.pocketworld.scene import ALL_PAIRS


def test_pictures_of_a_pair_depend_on_their_seed_alone(checkpoints):
    pipeline = load_nano(Settings(checkpoints=checkpoints))
    pairs = ALL_PAIRS[12:15]
    drawn = draw_pairs(pipeline, pairs, 2)
    assert drawn.shape == (2, 3, 3, 16, 16) and 0 <= drawn.min() <= drawn.max() <= 1
    alone = pipeline(
        pair_prompt(pairs[1]), num_inference_steps=STEPS, guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(1), output_type="pt",
    ).images[0]  # fmt: skip
    torch.testing.assert_close(drawn[1, 1], alone, atol=1e-4, rtol=0)
    assert not torch.allclose(drawn[0, 1], drawn[1, 1], atol=1e-3)


def test_a_checkpoint_that_is_missing_is_named(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
        load_nano(Settings(checkpoints=tmp_path))
