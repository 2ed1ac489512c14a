"""Templates: front matter of the Hub's, a block of ours, and a body."""

import pytest

from pocket_diffusers.model_cards.template import join_card, read_template, split_card


def test_read(world):
    template = read_template(world.template)
    assert template.method.name == "SnapGen" and template.method.results == ("named-right",)
    assert "pocket" not in template.front and template.front["license"] == "apache-2.0"
    assert template.body.lstrip().startswith("# {{ weights.repository }}")
    lines = world.template.read_text().split("\n")
    assert lines[template.offset : template.offset + 2] == template.body.split("\n")[:2]


def test_split_and_join_are_inverse():
    front, body = {"license": "mit", "tags": ["a", "b"]}, "\n# Title\n\n---\nmore\n"
    assert split_card(join_card(front, body), "card") == (front, body)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("---\nlicense", "license", "begins with front matter"),
        ("tags: [snapgen]", "tags: [snapgen", "is no YAML"),
        ("name: SnapGen", "title: SnapGen", "needs a block 'pocket'"),
        ('paper: "2412.09619"', "paper: 2412.09619", "put the arXiv number into quotes"),
    ],
)
def test_bad_front_matter(world, old, new, message):
    world.edit_template(old, new)
    with pytest.raises(ValueError, match=message):
        read_template(world.template)


def test_weights_may_have_a_card_of_their_own(world):
    assert world.sources.template("snapgen-nano-square") == world.template
    own = world.sources.cards / "snapgen-nano-square.md"
    own.write_text(world.template.read_text())
    assert world.sources.template("snapgen-nano-square") == own
    with pytest.raises(FileNotFoundError, match=r"no card for 'ascan-nano': write .*ascan\.md"):
        world.sources.template("ascan-nano")
