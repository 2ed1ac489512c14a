"""The committed prompt list: the one that is built, in GenEval's schema, even and rightly marked."""

import json
from collections import Counter

import pytest

from pocket_diffusers.training.datasets.pocketworld import prompts
from pocket_diffusers.training.datasets.pocketworld.caption_parsing import parse
from pocket_diffusers.training.datasets.pocketworld.captions import caption
from pocket_diffusers.training.datasets.pocketworld.descriptions import TAGS, Description
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS, HELD_OUT_PAIRS, SHAPES

RECORDS = prompts.load_prompts()


def of_tag(tag):
    return [record for record in RECORDS if record["tag"] == tag]


def test_the_file_is_what_is_built(tmp_path):
    assert prompts.build_prompts() == RECORDS
    prompts.write_prompts(tmp_path / "prompts.jsonl")
    assert (tmp_path / "prompts.jsonl").read_bytes() == prompts.PROMPTS_FILE.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["prompts.jsonl"]


def test_prompts_a_tag():
    counts = [len(of_tag(tag)) for tag in TAGS]
    of_geneval = [80, 99, 80, 94, 100, 100]
    assert counts == [5, 20, 15, 50, 80, 100]
    assert all(ours <= theirs for ours, theirs in zip(counts, of_geneval, strict=True))
    assert len({record["prompt"] for record in RECORDS}) == len(RECORDS) == 270


def test_schema_is_genevals_with_two_keys_more():
    for record in RECORDS:
        exclude = ["exclude"] if record["tag"] == "counting" else []
        assert list(record) == ["tag", "include", *exclude, "prompt", "n_images", "seen"]
        description = Description.from_metadata(record)
        assert parse(record["prompt"]) == description
        assert caption(description, paraphrase=False) == record["prompt"]
        if exclude:
            assert record["exclude"] == [{**record["include"][0], "count": record["include"][0]["count"] + 1}]


def test_pictures_a_tag_are_balanced():
    pictures = {tag: sum(record["n_images"] for record in of_tag(tag)) for tag in TAGS}
    assert all(190 <= number <= 240 for number in pictures.values()), pictures
    assert all(isinstance(record["n_images"], int) and record["n_images"] > 0 for record in RECORDS)
    assert all(len({record["n_images"] for record in of_tag(tag)}) == 1 for tag in TAGS)


def test_held_out_pairs_are_marked():
    held_out_words = {f"{color} {shape}" for color, shape in HELD_OUT_PAIRS}
    for record in RECORDS:
        assert record["seen"] is not any(words in record["prompt"] for words in held_out_words)
    unseen = Counter(record["tag"] for record in RECORDS if not record["seen"])
    assert set(unseen) == {"colors", "color_attr"} and unseen["colors"] == len(HELD_OUT_PAIRS) == 10
    assert 25 <= unseen["color_attr"] <= 45


def test_color_attr_is_even():
    sides = [[record["include"][side] for record in of_tag("color_attr")] for side in (0, 1)]
    for clauses in sides:
        uses = Counter((clause["color"], clause["class"]) for clause in clauses)
        assert len(uses) == len(COLORS) * len(SHAPES) and set(uses.values()) == {2}
    shapes = Counter((one["class"], other["class"]) for one, other in zip(*sides, strict=True))
    assert len(shapes) == 20 and set(shapes.values()) == {5}


def test_a_missing_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(prompts, "PROMPTS_FILE", tmp_path / "prompts.jsonl")
    with pytest.raises(FileNotFoundError, match=r"python -m pocket_diffusers.*prompts"):
        prompts.load_prompts()


def test_lines_are_json_objects():
    text = prompts.PROMPTS_FILE.read_text(encoding="utf-8")
    assert text.endswith("}\n") and all(isinstance(json.loads(line), dict) for line in text.splitlines())
