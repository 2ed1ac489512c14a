"""What cards say of trainings: the runs as recorded, and that they can be done again only where they can."""

import json

import pytest

from pocket_diffusers.model_cards.render import CARD, cards_of, render_card
from pocket_diffusers.model_cards.template import PACKAGE_SOURCES, split_card
from pocket_diffusers.model_cards.training_facts import (
    REPLAYABLE,
    UNREPEATABLE,
    read_training,
    replay_of,
    table_of,
)
from pocket_diffusers.pipelines.weights import part_digests, weights_digest
from pocket_diffusers.training.training_chain import gaps, read_chain


def first_line(card):
    return next(line for line in split_card(card, "card")[1].splitlines() if line)


@pytest.mark.parametrize("name", cards_of(None))
def test_committed_weights_are_what_their_record_leaves_and_the_first_line_says_whether_it_can_be_repeated(name):
    weights = PACKAGE_SOURCES.checkpoints / name
    runs = read_chain(PACKAGE_SOURCES.cards / "training" / f"{name}.json")
    assert runs[-1]["digest_out"] == weights_digest(weights) and runs[-1]["parts"] == part_digests(weights)
    card = (weights / CARD).read_text(encoding="utf-8")
    assert first_line(card) == f"> {replay_of(runs)}"
    assert (UNREPEATABLE in first_line(card)) == bool(gaps(runs)) != ("the same seed gives the same weights" in card)


def test_a_card_opens_with_what_its_record_lacks(world):
    world.edit_template("# {{ weights.repository }}", "> {{ training.replay }}\n\n# {{ weights.repository }}")
    assert first_line(render_card("snapgen-nano", sources=world.sources)) == f"> {REPLAYABLE}"
    world.describe_training(seed=None, digest_in={"init": "0" * 64})
    card = render_card("snapgen-nano", sources=world.sources)
    assert first_line(card) == (
        "> **These weights cannot be made again exactly** until they are retrained: their record lacks the seed of the "
        "run and the run that left what run 1 began with (init)."
    )
    assert "the same seed" not in card


def test_every_run_is_a_line_and_what_is_not_known_is_called_so(world):
    path = world.sources.cards / "training" / "snapgen-nano.json"
    (known,) = json.loads(path.read_text())
    lost = dict.fromkeys(known) | {"stage": "base", "note": "lost | gone", "seconds": 50}
    assert table_of([lost, known | {"seed": 0}]).splitlines()[2:] == [
        "| 1 | base | lost \\| gone | not known | not known | not known | 50 s | not known |",
        f"| 2 | base | 1,200 steps of 64 | PocketWorld | 0 | one core | 2 min | `{known['digest_out'][:12]}` |",
    ]
    path.write_text(json.dumps([lost, known]))
    assert read_training(path, known["digest_out"])["commands"] == known["command"]
