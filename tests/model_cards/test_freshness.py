"""Staleness: a card that no longer says what the facts say is found, and so is a number put in by hand."""

from dataclasses import replace

import pytest

from pocket_diffusers.model_cards.freshness import check_card, find_stale
from pocket_diffusers.model_cards.render import cards_of, write_card


@pytest.fixture
def written(world):
    world.put_samples()
    write_card("snapgen-nano", world.readme, world.sources)
    assert check_card("snapgen-nano", world.sources) == []
    return world


@pytest.mark.parametrize("name", cards_of(None))
def test_committed_card_is_fresh(name):
    assert find_stale(name) == []


def test_new_measurement_makes_a_card_stale(written, row):
    written.set_rows(row(measured=0.84))
    problems = check_card("snapgen-nano", written.sources)
    assert "README.md is stale: it says" in problems[0] and "0.8125" in problems[0] and "0.84" in problems[0]
    assert problems[-1].startswith("`pocket card snapgen-nano --output ")


def test_number_put_in_by_hand_is_found(written):
    written.readme.write_text(written.readme.read_text().replace("81% of objects", "97% of objects"))
    assert "97% of objects" in check_card("snapgen-nano", written.sources)[0]


def test_row_that_vanished_is_found(written, row):
    written.set_rows(row(id="something-else"))
    assert "nobody measured" in check_card("snapgen-nano", written.sources)[0] or "which no result" in str(
        check_card("snapgen-nano", written.sources)
    )


def test_missing_card_is_found(written):
    written.readme.unlink()
    assert "it is missing" in check_card("snapgen-nano", written.sources)[0]


def test_other_weights_are_found(written):
    written.set_weights(1.0)
    assert "describes other weights" in check_card("snapgen-nano", written.sources)[0]
    written.describe_training()
    assert "was drawn by other weights" in check_card("snapgen-nano", written.sources)[0]


def test_all_cards_or_one_readme(written, tmp_path):
    assert find_stale(sources=written.sources) == []
    assert find_stale("snapgen", sources=written.sources) == []
    readme = tmp_path / "README.md"
    assert find_stale(readme=readme, sources=written.sources) == [f"{readme} is missing."]
    in_a_checkout = replace(written.sources, readme=readme)
    assert find_stale(sources=in_a_checkout) == [f"{readme} is missing."]
    assert find_stale("snapgen", sources=in_a_checkout) == [], "who asks for one card gets no more"
