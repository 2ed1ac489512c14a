"""Rendering: every number from a fact, front matter as the Hub reads it, nothing half-written."""

import pytest
from huggingface_hub import ModelCard

from pocket_diffusers.model_cards.render import cards_of, render_card, write_card
from pocket_diffusers.model_cards.wheel import WHEEL


def test_card_says_what_was_measured(world):
    text = render_card("snapgen-nano", "me/snapgen", sources=world.sources)
    assert "# me/snapgen" in text and "81% of objects" in text and "(0.75 to 0.875), missed" in text
    assert "has 1,024\nparameters" in text
    assert "| 1 | base | 1,200 steps of 64 | PocketWorld | 3 | one core | 2 min |" in text
    assert "pocket:" not in text and "{{" not in text


def test_card_of_a_private_repository_says_how_to_fetch_the_wheel(world):
    world.edit_template("{{ results.paper }}", "```python\n{{ package.install }}\n```")
    text = render_card("snapgen-nano", "me/snapgen", sources=world.sources)
    assert f"```python\n# pip install https://huggingface.co/me/snapgen/resolve/main/{WHEEL}\n```" in text
    text = render_card("snapgen-nano", "me/snapgen", sources=world.sources, private=True)
    assert f"# hf download me/snapgen {WHEEL} --local-dir .\n# pip install ./{WHEEL}\n```" in text
    assert "private" in text and "hf auth login" in text and "pip install https" not in text


def test_hub_reads_the_front_matter(world):
    data = ModelCard(render_card("snapgen-nano", sources=world.sources)).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "diffusers", "text-to-image")
    assert [entry["output"]["url"] for entry in data.widget] == ["samples/00.png", "samples/01.png"]
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("named-right", 0.8125, "PocketWorld")
    assert result.metric_args == {"interval": [0.75, 0.875], "n": 1600, "seed": 0}


def test_recognizer_shows_pictures_without_a_widget(world):
    world.edit_template("widget:\n  - text: a red cube\n  - text: a green cone\n", "")
    world.edit_template("{guidance_scale: 7.0, seed: 0}", "{pictures: digits, count: 2}")
    assert "widget" not in ModelCard(render_card("snapgen-nano", sources=world.sources)).data.to_dict()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("named-right.low", "named-rigth.low", r"line 22 names 'named-rigth.low'.*nearest: 'named-right'"),
        ("results: [named-right]", "results: [nine-of-ten]", "names the result 'nine-of-ten', which nobody measured"),
        ("A re-implementation", "A 0.97 re-implementation", r"snapgen\.md, line 21: nobody measured 0\.97"),
        ("{{ training.table }}", "{{ training.steps }}", "'steps' is unknown"),
    ],
)
def test_numbers_that_nobody_measured(world, old, new, message):
    world.edit_template(old, new)
    with pytest.raises(ValueError, match=message):
        render_card("snapgen-nano", sources=world.sources)


def test_write(world, tmp_path):
    world.put_samples()
    write_card("snapgen-nano", world.readme, world.sources)
    assert world.readme.read_text() == render_card("snapgen-nano", sources=world.sources)
    with pytest.raises(IsADirectoryError, match=r"is a folder: name the card's file, such as .*README\.md"):
        write_card("snapgen-nano", tmp_path, world.sources)


def test_faulty_card_is_not_written(world):
    world.put_samples()
    world.edit_template("license: apache-2.0", "license: apache")
    with pytest.raises(ValueError, match="license must be one of.*not 'apache'"):
        write_card("snapgen-nano", world.readme, world.sources)
    assert not list(world.weights.glob("*README*"))


def test_names(world):
    (world.sources.checkpoints / "snapgen-nano-square").mkdir()
    (world.sources.checkpoints / "clip-nano").mkdir()
    assert cards_of("snapgen", world.sources) == ["snapgen-nano", "snapgen-nano-square"]
    assert cards_of("clip-nano", world.sources) == ["clip-nano"]
    assert cards_of(None, world.sources) == ["clip-nano", "snapgen-nano", "snapgen-nano-square"]
    with pytest.raises(ValueError, match="card 'snapgem' is unknown: use one of clip-nano"):
        cards_of("snapgem", world.sources)
