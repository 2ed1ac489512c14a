"""Captions: true of one plan each."""

import numpy as np
import pytest

from pocket_diffusers.training.datasets.motionworld.captions import all_captions, caption, phrases
from pocket_diffusers.training.datasets.motionworld.plans import Action, all_actions, sample_plan


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ((Action("walk", direction="forward"),), "a person walks forward"),
        ((Action("walk", "slowly", "left"),), "someone slowly sidesteps to the left"),
        ((Action("circle", "quickly", "right"),), "a man walks clockwise in a circle fast"),
        ((Action("run", "quickly", "forward"),), "a woman sprints forward"),
        ((Action("turn", direction="left", degrees=180),), "the person turns around to the left"),
        ((Action("jump", direction="up", repetitions=3),), "a person jumps three times"),
        ((Action("punch", "", limb="right", repetitions=2),), "a person punches with the right fist twice"),
        ((Action("raise", "slowly", "sideways", "both", 1),), "a person raises both arms to the sides slowly"),
        (
            (Action("walk", direction="forward"), Action("wave", limb="left")),
            "a person walks forward, then waves with the left hand",
        ),
    ],
)
def test_wording(plan, said):
    assert said in set(all_captions(plan))


def test_every_phrase_means_one_action():
    meaning = {}
    for action in all_actions():
        for phrase in phrases(action):
            assert meaning.setdefault(phrase, action) == action
    assert len(meaning) > 2000
    assert not any(" then " in phrase or " after" in phrase for phrase in meaning)


def test_a_phrase_names_what_is_told_apart():
    for action in all_actions():
        for phrase in phrases(action):
            words = set(phrase.split())
            assert ({"slowly", "slow", "jogs"} & words != set()) == (action.speed == "slowly")
            assert ({"quickly", "fast", "sprints"} & words != set()) == (action.speed == "quickly")
            assert ({"twice", "two"} & words != set()) == (action.repetitions == 2)
            if action.limb in ("left", "right") and action.verb != "raise":
                assert words & {"left", "right"} == {action.limb}


def test_drawn_captions_are_among_all_and_many():
    rng = np.random.default_rng(1)
    drawn = set()
    for _ in range(1500):
        plan = sample_plan(rng)
        said = caption(plan, rng)
        drawn.add(said)
        assert said == said.strip().lower() and "  " not in said
        if len(plan) == 1:
            assert said in set(all_captions(plan))
    assert len(drawn) > 1000


def test_the_same_draw_says_the_same():
    plan = (Action("walk", direction="forward"), Action("kick", limb="left", repetitions=2))
    assert len({caption(plan, np.random.default_rng(7)) for _ in range(3)}) == 1
    assert len({caption(plan, np.random.default_rng(seed)) for seed in range(40)}) > 30
