"""Prompts of a rehearsal of motions: each another, and together all words that captions have."""

import re
from collections.abc import Iterable

from pocket_diffusers.pipelines.export import rehearsal
from pocket_diffusers.pipelines.export.methods.motion_prompts import motion_prompt
from pocket_diffusers.training.datasets.motionworld.captions import all_captions
from pocket_diffusers.training.datasets.motionworld.plans import all_actions

PROMPTS = [motion_prompt(index) for index in range(rehearsal.MANY)]


def words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"\w+", text)}


def test_all_differ_and_a_number_gives_the_same_prompt_again():
    assert len({motion_prompt(index) for index in range(1000)}) == 1000 and PROMPTS[7] == motion_prompt(7)
    assert PROMPTS[0] == "a person walks forward slowly, then turns 90 degrees to the left"


def test_what_int8_is_calibrated_on_has_every_word_of_the_world():
    known = set().union(*(words(all_captions((action,))) for action in all_actions()))
    assert len(known) > 70 and known <= words(rehearsal._parted("text_encoder", PROMPTS).calibration)
