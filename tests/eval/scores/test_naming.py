import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pocket_diffusers.eval.scores.naming import PairNamer, bare_prompt, count_right, pair_prompt, single_colored
from pocket_diffusers.eval.scores.retrieval import world_records
from pocket_diffusers.training.datasets.pocketworld.caption_parsing import parse
from pocket_diffusers.training.datasets.pocketworld.scene import ALL_PAIRS, HELD_OUT_PAIRS, SEEN_PAIRS


class GreyClip(nn.Module):
    """Reads the number of a pair off a picture's grey; its vectors are the rows of an orthogonal matrix."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.vectors = nn.Parameter(nn.init.orthogonal_(torch.empty(50, 64)), requires_grad=False)

    def encode_images(self, pictures):
        return self.vectors[(pictures.mean(dim=(1, 2, 3)) * 49).round().long()]

    def encode_texts(self, texts):
        clauses = [parse(text).include[0] for text in texts]
        return self.vectors[[ALL_PAIRS.index((clause.color, clause.cls)) for clause in clauses]]


def grey(numbers) -> torch.Tensor:
    return (torch.tensor(numbers) / 49).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)


def test_a_perfect_clip_names_every_pair():
    assert PairNamer(GreyClip()).name(grey(range(50))) == list(ALL_PAIRS)


def test_the_nearest_pair_is_named():
    namer = PairNamer(GreyClip())
    numbers = [49, 3, 3, 17]
    named = namer.name(grey(numbers))
    assert named == [ALL_PAIRS[number] for number in numbers]
    assert count_right(named, [ALL_PAIRS[49], ALL_PAIRS[3], ALL_PAIRS[4], ALL_PAIRS[17]]) == (3, 4)


def test_both_wordings_count():
    """One wording, misheard, would name the next pair; together with the other it does not."""

    class HalfDeaf(GreyClip):
        def encode_texts(self, texts):
            vectors = super().encode_texts(texts)
            misheard = F.normalize(vectors + 1.2 * vectors.roll(1, 0), dim=-1)
            return vectors if texts[0].startswith("a photo") else misheard

    namer = PairNamer(HalfDeaf())
    alone = (namer.encoder.vectors @ namer.encoder.encode_texts([bare_prompt(pair) for pair in ALL_PAIRS]).T).argmax(1)
    assert [ALL_PAIRS[number] for number in alone] != list(ALL_PAIRS)
    assert namer.name(grey(range(50))) == list(ALL_PAIRS)


def test_prompts_are_english():
    assert pair_prompt(("red", "cube")) == "a photo of a red cube"
    assert pair_prompt(("orange", "torus")) == "a photo of an orange torus"
    assert bare_prompt(("orange", "torus")) == "an orange torus"
    assert len({word(pair) for pair in ALL_PAIRS for word in (pair_prompt, bare_prompt)}) == 100


def test_seen_and_held_out_pairs_are_counted_apart():
    wrong = {ALL_PAIRS[0], next(iter(HELD_OUT_PAIRS))}
    named = [("red", "cone") if pair in wrong else pair for pair in ALL_PAIRS]
    assert count_right(named, ALL_PAIRS, SEEN_PAIRS) == (39, 40)
    assert count_right(named, ALL_PAIRS, HELD_OUT_PAIRS) == (9, 10)
    assert count_right(named, ALL_PAIRS) == (48, 50)
    with pytest.raises(ValueError, match="named has 1 entries and wanted 2"):
        count_right(named[:1], ALL_PAIRS[:2])


def test_true_pictures_show_one_object_of_the_pair_in_their_caption():
    chosen = list(single_colored(world_records("test", 16), 5))
    assert len(chosen) == 5
    for record, (color, shape) in chosen:
        clause = parse(record.caption).include[0]
        assert (clause.color, clause.cls, clause.count) == (color, shape, 1)
        assert set(record.instances.flatten().tolist()) == {0, 1}
