"""The evaluator of motions: its size, its formula, and that neither padding nor a batch changes what it says.

What all models promise is in `tests/contracts`.
"""

import pytest
import torch
from torch import nn

from pocket_diffusers import MotionTextEvaluator
from pocket_diffusers.eval.scores.operations import count_parameters

TINY = {
    "word_dim": 6, "pos_dim": 3, "movement_dim": 8, "motion_hidden_dim": 10, "text_hidden_dim": 7, "embedding_dim": 5,
    "num_features": 12, "max_frames": 24,
}  # fmt: skip


def tiny(**options):
    torch.manual_seed(0)
    return MotionTextEvaluator(**{**TINY, **options}).eval()


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def given():
    generator = torch.Generator().manual_seed(1)
    return {
        "features": torch.randn(5, 24, 12, generator=generator),
        "lengths": torch.tensor([8, 24, 13, 4, 20]),
        "words": torch.randn(5, 9, 6, generator=generator),
        "word_counts": torch.tensor([9, 1, 4, 2, 7]),
        "parts_of_speech": torch.eye(3)[torch.randint(3, (5, 9), generator=generator)],
    }


def test_paper_counts_by_hand():
    with torch.device("meta"):
        model = MotionTextEvaluator.from_preset("paper")
    gru = {units: 2 * (6 * units**2 + 6 * units) for units in (1024, 512)}
    movement = (259 * 512 * 4 + 512) + (512 * 512 * 4 + 512) + (512 * 512 + 512)
    motion = (512 * 1024 + 1024) + gru[1024] + (2048 * 1024 + 1024) + 2 * 1024 + (1024 * 512 + 512) + 2 * 1024
    text = (15 * 300 + 300) + (300 * 512 + 512) + gru[512] + (1024 * 512 + 512) + 2 * 512 + (512 * 512 + 512) + 2 * 512
    assert count_parameters(model.movement_encoder) == movement == 1_842_688
    assert count_parameters(model.motion_encoder) == motion == 15_747_584
    assert count_parameters(model.text_encoder) == text == 4_100_288
    assert count_parameters(model) == 21_690_560


def test_nano_learns_its_words_and_is_small():
    with torch.device("meta"):
        model = MotionTextEvaluator.from_preset("nano")
    assert model.word_vectors.weight.shape == (512, 64) and model.text_encoder.pos_emb is None
    assert 0.55e6 < count_parameters(model) < 0.65e6


def gru_by_hand(gru, items, first, reverse):
    """The last state of one direction, gate by gate."""
    suffix = "_reverse" if reverse else ""
    weights = (getattr(gru, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    w_ih, w_hh, b_ih, b_hh = weights
    state = first
    for item in reversed(items) if reverse else items:
        r_i, z_i, n_i = (w_ih @ item + b_ih).chunk(3)
        r_h, z_h, n_h = (w_hh @ state + b_hh).chunk(3)
        reset, update = (r_i + r_h).sigmoid(), (z_i + z_h).sigmoid()
        new = (n_i + reset * n_h).tanh()
        state = (1 - update) * new + update * state
    return state


def encode_by_hand(encoder, items):
    items = [encoder.input_emb(item) for item in items]
    ends = [gru_by_hand(encoder.gru, items, encoder.hidden[way, 0], bool(way)) for way in (0, 1)]
    return encoder.output_net(torch.cat(ends))


@torch.no_grad()
def test_text_by_hand(model, given):
    found = model.embed_text(given["words"], given["word_counts"], given["parts_of_speech"])
    for i, count in enumerate(given["word_counts"]):
        words = given["words"][i, :count] + model.text_encoder.pos_emb(given["parts_of_speech"][i, :count])
        assert torch.allclose(found[i], encode_by_hand(model.text_encoder, list(words)), atol=1e-6)


@torch.no_grad()
def test_motion_by_hand(model, given):
    """Each clip, with zeros after its end up to the most frames there may be, and without its four contacts."""
    found = model.embed_motion(given["features"], given["lengths"])
    movement = model.movement_encoder
    for i, length in enumerate(given["lengths"]):
        clip = torch.zeros(24, 8)
        clip[:length] = given["features"][i, :length, :-4]
        first = nn.functional.conv1d(clip.T[None], movement.main[0].weight, movement.main[0].bias, 2, 1)
        second = nn.functional.conv1d(
            torch.where(first > 0, first, 0.2 * first), movement.main[3].weight, movement.main[3].bias, 2, 1
        )
        movements = movement.out_net(torch.where(second > 0, second, 0.2 * second)[0].T)
        assert len(movements) == 6
        expected = encode_by_hand(model.motion_encoder, list(movements[: length // 4]))
        assert torch.allclose(found[i], expected, atol=1e-6)


@torch.no_grad()
def test_neither_padding_nor_the_batch_changes_anything(model, given):
    together = model(**given)
    for i in range(5):
        length, count = int(given["lengths"][i]), int(given["word_counts"][i])
        alone = model(
            given["features"][i : i + 1, :length],
            given["lengths"][i : i + 1],
            given["words"][i : i + 1, :count],
            given["word_counts"][i : i + 1],
            given["parts_of_speech"][i : i + 1, :count],
        )
        assert torch.allclose(together.motion[i], alone.motion[0], atol=1e-6)
        assert torch.allclose(together.text[i], alone.text[0], atol=1e-6)
    wild = {name: value.clone() for name, value in given.items()}
    for i in range(5):
        wild["features"][i, given["lengths"][i] :] = torch.nan
        wild["words"][i, given["word_counts"][i] :] = 1e6
    wild["features"][..., -4:] = torch.nan  # contacts are not looked at
    again = model(**wild)
    assert torch.equal(again.motion, together.motion) and torch.equal(again.text, together.text)
    longer = nn.functional.pad(given["features"], (0, 0, 0, 10))
    assert torch.equal(model.embed_motion(longer, given["lengths"]), together.motion)


@torch.no_grad()
def test_order_of_frames_and_words_matters(model, given):
    whole = {**given, "lengths": torch.full((5,), 24), "word_counts": torch.full((5,), 9)}
    turned = {**whole, "features": given["features"].flip(1), "words": given["words"].flip(1)}
    base, other = model(**whole), model(**turned)
    assert (other.motion - base.motion).abs().amax(1).min() > 1e-3
    assert (other.text - base.text).abs().amax(1).min() > 1e-3


def test_words_by_number():
    model = tiny(vocabulary_size=11, pos_dim=0)
    numbers = torch.tensor([[3, 1, 4], [1, 5, 0]])
    with torch.no_grad():
        found = model.embed_text(numbers, torch.tensor([3, 2]))
        vectors = model.text_encoder(model.word_vectors(numbers), torch.tensor([3, 2]))
    assert torch.equal(found, vectors)


def test_guos_file_becomes_the_evaluator(tmp_path, given):
    source = tiny()
    torch.save(guo_layout(source), tmp_path / "finest.tar")
    model = MotionTextEvaluator.from_guo(tmp_path / "finest.tar", **TINY)
    assert not model.training
    with torch.no_grad():
        found, expected = model(**given), source(**given)
    assert torch.equal(found.motion, expected.motion) and torch.equal(found.text, expected.text)


def test_guos_file_of_another_model_is_refused(tmp_path):
    torch.save(guo_layout(tiny()), tmp_path / "finest.tar")
    with pytest.raises(ValueError, match=r"movement_encoder.main.0.weight is \[8, 8, 4\] and not \[8, 9, 4\]"):
        MotionTextEvaluator.from_guo(tmp_path / "finest.tar", **{**TINY, "num_features": 13})
    with pytest.raises(ValueError, match=r"text_encoder.pos_emb.bias is unknown"):
        MotionTextEvaluator.from_guo(tmp_path / "finest.tar", **{**TINY, "pos_dim": 0})
    with pytest.raises(FileNotFoundError, match="there is no file at"):
        MotionTextEvaluator.from_guo(tmp_path / "finest.pt")


def guo_layout(model):
    """What Guo et al.'s training keeps: three networks and what it goes on with."""
    parts = ("movement_encoder", "motion_encoder", "text_encoder")
    optimizer = torch.optim.Adam(model.text_encoder.parameters())
    return {
        **{part: getattr(model, part).state_dict() for part in parts},
        "opt_text_encoder": optimizer.state_dict(),
        "epoch": 7,
        "iter": 1234,
    }


def test_bad_words():
    model = tiny(vocabulary_size=11, pos_dim=0)
    with pytest.raises(ValueError, match="words must be from 0 to 10, not 2 to 11"):
        model.embed_text(torch.tensor([[2, 11]]), torch.tensor([2]))
    with pytest.raises(ValueError, match=r"words must be numbers \[batch, words\], not torch.float32 \[1, 2, 6\]"):
        model.embed_text(torch.zeros(1, 2, 6), torch.tensor([2]))
    with pytest.raises(ValueError, match=r"parts_of_speech must be None, not \[1, 2, 3\]"):
        model.embed_text(torch.tensor([[2, 3]]), torch.tensor([2]), torch.zeros(1, 2, 3))
