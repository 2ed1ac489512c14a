"""Plans: what may be done, and how often it is drawn."""

from collections import Counter

import numpy as np
import pytest

from pocket_diffusers.training.datasets.motionworld.plans import CHOICES, TWO_ACTIONS, Action, all_actions, sample_plan


def test_the_world_has_all_its_actions():
    actions = list(all_actions())
    assert len(set(actions)) == len(actions)
    assert Counter(action.verb for action in actions) == {
        "walk": 3 * 4, "run": 3, "circle": 3 * 2, "turn": 3 * 2 * 3, "jump": 3 * 4, "crouch": 3 * 3, "wave": 3 * 3 * 4,
        "punch": 3 * (4 + 4 + 3), "kick": 3 * 2 * 4, "raise": 3 * 3 * 3 * 3, "stand": 1,
    }  # fmt: skip


def test_plans_are_drawn_from_all_actions():
    rng = np.random.default_rng(0)
    plans = [sample_plan(rng) for _ in range(4000)]
    assert {len(plan) for plan in plans} == {1, 2}
    assert abs(np.mean([len(plan) == 2 for plan in plans]) - TWO_ACTIONS) < 0.03
    assert all(len({action.verb for action in plan}) == len(plan) for plan in plans)
    assert {action for plan in plans for action in plan} == set(all_actions())
    walks = Counter(action.direction for plan in plans for action in plan if action.verb == "walk")
    assert walks.keys() == set(CHOICES["walk"].directions) and min(walks.values()) > 0.8 * max(walks.values()) - 30


@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ({"verb": "swim"}, "verb must be one of walk, .*, not 'swim'"),
        ({"verb": "walk"}, "direction of walk must be one of .*, not ''"),
        ({"verb": "stand", "speed": "quickly"}, "speed of stand .* not 'quickly'"),
        ({"verb": "kick", "limb": "both", "repetitions": 1}, "limb of kick .* not 'both'"),
        ({"verb": "jump", "direction": "up", "repetitions": 5}, "repetitions of jump .* not 5"),
        ({"verb": "turn", "direction": "left", "degrees": 45}, "degrees of turn .* not 45"),
        ({"verb": "punch", "limb": "both", "repetitions": 1}, "both fists must be at least 2, not 1"),
    ],
)
def test_what_cannot_be_done_is_refused(manner, message):
    with pytest.raises(ValueError, match=message):
        Action(**manner)
