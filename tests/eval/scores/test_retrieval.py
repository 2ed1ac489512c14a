from collections import Counter
from itertools import islice

import pytest
import torch
import torch.nn.functional as F

from pocket_diffusers.eval.scores.retrieval import (
    measure_retrieval,
    plain_groups,
    recall_at_1,
    to_pictures,
    unambiguous_groups,
    world_records,
)

SIZE = 16


@pytest.fixture(scope="module")
def records():
    return list(islice(world_records("test", SIZE), 128))


@pytest.fixture(scope="module")
def groups(records):
    return unambiguous_groups(records, groups=2, size=12)


def claims(record) -> bool | None:
    """Whether `other` shows what `record` says, counted anew, for the types that boxes do not decide."""
    clauses = [(clause.cls, clause.count, clause.color) for clause in record.description.include]

    def true_of(other) -> bool:
        shapes = Counter(obj.shape for obj in other.scene.objects)
        first = {obj.shape: obj.color for obj in reversed(other.scene.objects)}
        if record.description.tag == "counting":
            return shapes[clauses[0][0]] == clauses[0][1]
        return all(shapes[cls] >= 1 and color in (None, first[cls]) for cls, _, color in clauses)

    return true_of


def test_each_caption_is_true_of_its_own_picture_alone(groups):
    checked = 0
    for group in groups:
        assert len(group) == 12 and len({record.caption for record in group}) == 12
        tags = Counter(record.description.tag for record in group)
        assert tags["single_object"] == 0 and tags["two_object"] <= 3
        for record in group:
            if record.description.tag != "position":
                assert [other.index for other in group if claims(record)(other)] == [record.index]
                checked += 1
        relations = [(r.description, r.caption) for r in group if r.description.tag == "position"]
        assert len({description for description, _ in relations}) == len(relations)
    assert checked > 12


def test_groups_share_no_record_and_are_the_same_every_time(records, groups):
    indices = [record.index for group in groups for record in group]
    assert len(set(indices)) == 24
    again = unambiguous_groups(iter(records), groups=2, size=12)
    assert [[record.index for record in group] for group in again] == [[r.index for r in group] for group in groups]


def test_too_few_records_and_bad_numbers(records):
    with pytest.raises(ValueError, match="fill .* of 24 places"):
        unambiguous_groups(records[:20], groups=2, size=12)
    with pytest.raises(ValueError, match="size is 1"):
        unambiguous_groups(records, groups=1, size=1)


def naive_recall(images, texts) -> tuple[int, int]:
    def best(query, keys):
        scores = [sum(a * b for a, b in zip(query, key, strict=True)) for key in keys]
        return scores.index(max(scores))

    images, texts = images.tolist(), texts.tolist()
    found_texts = sum(best(image, texts) == i for i, image in enumerate(images))
    return found_texts, sum(best(text, images) == i for i, text in enumerate(texts))


@pytest.mark.parametrize("noise", [0.0, 1.0, 3.0, 30.0])
def test_recall_agrees_with_a_naive_count(noise):
    generator = torch.Generator().manual_seed(7)
    images = F.normalize(torch.randn(30, 8, generator=generator), dim=-1)
    texts = F.normalize(images + noise * torch.randn(30, 8, generator=generator) / 8**0.5, dim=-1)
    right = recall_at_1(images, texts, range(30))
    assert right == naive_recall(images, texts)
    assert (right == (30, 30)) == (noise == 0.0)


def test_a_tie_is_no_right_answer():
    assert recall_at_1(torch.ones(5, 2), torch.ones(5, 2), range(5)) == (0, 0)
    for texts, owners in ((torch.ones(2, 4), range(2)), (torch.ones(2, 3), range(3)), (torch.ones(6), range(2))):
        with pytest.raises(ValueError, match=rf"images is \[2, 3\], texts is .* names {len(owners)}"):
            recall_at_1(torch.ones(2, 3), texts, owners)
    with pytest.raises(ValueError, match=r"must name rows of the 2 texts, not \[0, 2\]"):
        recall_at_1(torch.ones(2, 3), torch.ones(2, 3), [0, 2])


def test_pictures_of_one_caption_are_all_right_for_it():
    angles = torch.tensor([0.0, 10.0, 80.0]).deg2rad()
    images = torch.stack([angles.cos(), angles.sin()], dim=1)
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert recall_at_1(images, texts, [0, 0, 1]) == (3, 2)
    assert recall_at_1(images, texts, [1, 0, 1]) == (2, 1), "the first caption's nearest picture is not its own"


def test_plain_groups_leave_nothing_out(records):
    groups = plain_groups(iter(records), groups=3, size=40)
    assert [record.index for group in groups for record in group] == list(range(120))
    tags = Counter(record.description.tag for group in groups for record in group)
    assert tags["single_object"] > 0, "those that the other groups leave out"
    with pytest.raises(ValueError, match="fill 128 of 129 places"):
        plain_groups(records, groups=3, size=43)
    with pytest.raises(ValueError, match="groups is 0"):
        plain_groups(records, groups=0)


def test_identical_captions_of_a_group_are_one(records):
    by_caption = {}
    for record in islice(world_records("test", SIZE), 2000):
        by_caption.setdefault(record.caption, []).append(record)
    twins = next(found[:2] for found in by_caption.values() if len(found) > 1)
    others = [record for record in records[:20] if record.caption != twins[0].caption]
    group = [*others[:9], *twins]
    recall = measure_retrieval(Remembering([group], 0), [group])
    assert (recall.pictures, recall.captions) == (11, len({record.caption for record in group})) == (11, 10)
    assert recall.image_to_text == 10 and recall.text_to_image == 10, "the caption is nearest to its last picture"


class Remembering:
    """Embeds a picture as its pixels and a caption as the pixels of its picture, or as any where it forgot them."""

    def __init__(self, groups, forgotten: int):
        generator = torch.Generator().manual_seed(0)
        self.mean = torch.cat([to_pictures(group) for group in groups]).mean(dim=0)
        self.seen = {record.caption: to_pictures([record])[0] for group in groups for record in group}
        for record in (record for group in groups for record in group[:forgotten]):
            self.seen[record.caption] = torch.rand(self.mean.shape, generator=generator)

    def encode_images(self, pictures):
        return F.normalize((pictures - self.mean).flatten(1), dim=-1)

    def encode_texts(self, texts):
        return self.encode_images(torch.stack([self.seen[text] for text in texts]))


@pytest.mark.parametrize("forgotten", [0, 3])
def test_measured_over_groups(groups, forgotten):
    encoder = Remembering(groups, forgotten)
    recall = measure_retrieval(encoder, groups)
    captions = [[record.caption for record in group] for group in groups]
    naive = [
        naive_recall(encoder.encode_images(to_pictures(group)), encoder.encode_texts(texts))
        for group, texts in zip(groups, captions, strict=True)
    ]
    assert recall.pictures == recall.captions == 24
    assert (recall.image_to_text, recall.text_to_image) == tuple(map(sum, zip(*naive, strict=True)))
    assert (recall.image_to_text == 24) == (forgotten == 0)


def test_pictures_are_channels_first_in_the_unit_range(records):
    pictures = to_pictures(records[:3])
    assert pictures.shape == (3, 3, SIZE, SIZE)
    assert pictures[2, 1, 4, 7].item() * 255 == pytest.approx(records[2].rgb[4, 7, 1])
