"""Prompts of a rehearsal: each another, and together all words that captions have."""

import re
from collections.abc import Iterable

from pocket_diffusers.pipelines.export import rehearsal
from pocket_diffusers.pipelines.export.methods.prompts import prompt
from pocket_diffusers.training.datasets.pocketworld.prompts import load_prompts
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS
from pocket_diffusers.training.datasets.pocketworld.vocabulary import MOTIONS, NUMBER_WORDS, PLURALS, SINGULARS

PROMPTS = [prompt(index) for index in range(rehearsal.MANY)]


def words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"\w+", text)}


def test_all_differ_and_a_number_gives_the_same_prompt_again():
    assert len(set(PROMPTS)) == rehearsal.MANY and PROMPTS[7] == prompt(7)
    assert PROMPTS[0] == "a photo of a red cube"
    assert not [text for text in PROMPTS if re.search(r"\ba [aeiou]|\ban [^aeiou]|[{}]", text)]


def test_what_int8_is_calibrated_on_has_every_word_of_the_world():
    """Counted on the prompts alone: the empty one beside them moves the choice by one place at most."""
    calibration = rehearsal._parted("text_encoder", PROMPTS).calibration
    known = words([*COLORS, *NUMBER_WORDS.values(), *map(str, NUMBER_WORDS)])
    known |= words(option for options in (*SINGULARS.values(), *PLURALS.values()) for option in options)
    known |= words(form for motion, forms in MOTIONS.items() for form in (motion, *forms))
    known |= words(entry["prompt"] for entry in load_prompts())
    assert known <= words(calibration)
