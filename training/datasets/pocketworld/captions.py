"""Captions of PocketWorld: descriptions said in English, in GenEval's wording or in other words.

`caption_parsing` reads them back.  Pure Python, no torch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from .descriptions import Clause, Description, check_world
from .vocabulary import (
    COLOR_FORMS,
    FRONTED_PLACES,
    JOINERS,
    MOTION_PLACES,
    MOTIONS,
    NUMBER_WORDS,
    OPENINGS,
    PAIR_DETERMINERS,
    PLACES,
    PLURALS,
    SINGLE_DETERMINERS,
    SINGULARS,
    Motions,
)

if TYPE_CHECKING:
    import numpy as np

Choose = Callable[[Sequence[str]], str]


def caption(
    description: Description,
    rng: "np.random.Generator | None" = None,
    motions: Motions | None = None,
    paraphrase: bool = True,
) -> str:
    """Say a description in English.

    Args:
        description: a description over PocketWorld's shapes and colours.
        rng: draws the wording; not needed with `paraphrase=False`.
        motions: a motion program (slide, orbit, bounce, spin, hop) or None for each include clause.
        paraphrase: False gives GenEval's wording ("a photo of a red cube"), with motion as a participle
            ("a photo of a bouncing red cube").

    Raises:
        ValueError: a description that is no PocketWorld description of its tag, or an unknown motion.
    """
    if paraphrase and rng is None:
        raise ValueError("rng is None; a paraphrased caption needs a numpy Generator.")
    motions = _checked_motions(description, motions)
    check_world(description)
    if not paraphrase:
        return _say(description, motions, lambda options: options[0])
    return _say(description, motions, lambda options: options[int(rng.integers(len(options)))])


def all_captions(description: Description, motions: Motions | None = None) -> Iterator[str]:
    """Every sentence that `caption` can say of a description, GenEval's wording first."""
    motions = _checked_motions(description, motions)
    check_world(description)
    path: list[int] = []
    while True:
        walk = _Walk(path)
        yield _say(description, motions, walk)
        path = walk.next_path()
        if not path:
            return


def _checked_motions(description: Description, motions: Motions | None) -> Motions:
    if motions is None:
        return (None,) * len(description.include)
    if len(motions) != len(description.include):
        clauses = len(description.include)
        raise ValueError(f"motions has {len(motions)} entries; it needs one for each of {clauses} clauses.")
    for motion in motions:
        if motion is not None and motion not in MOTIONS:
            raise ValueError(f"motion must be None or one of {', '.join(MOTIONS)}, not {motion!r}.")
    return tuple(motions)


class _Walk:
    """Chooser that follows a path of option numbers, then takes first options; it knows the next path."""

    def __init__(self, path: list[int]):
        self.path, self.taken, self.widths = path, [], []

    def __call__(self, options: Sequence[str]) -> str:
        distinct = tuple(dict.fromkeys(options))
        depth = len(self.taken)
        self.taken.append(self.path[depth] if depth < len(self.path) else 0)
        self.widths.append(len(distinct))
        return distinct[self.taken[-1]]

    def next_path(self) -> list[int]:
        taken, widths = list(self.taken), list(self.widths)
        while taken and taken[-1] + 1 == widths[-1]:
            taken.pop()
            widths.pop()
        if taken:
            taken[-1] += 1
        return taken


def _say(description: Description, motions: Motions, choose: Choose) -> str:
    return _SAYERS[description.tag](description.include, motions, choose)


def _say_one(clauses: tuple[Clause, ...], motions: Motions, choose: Choose) -> str:
    clause, motion = clauses[0], motions[0]
    forms = ["phrase"] * 4
    if clause.color is not None:
        forms.append("predicate")
    if motion is not None:
        forms.append("action")
    form = choose(forms)
    if form == "predicate":
        return _predicate(clause, motion, choose)
    if form == "action":
        noun = _noun(clause, None, choose)
        return choose((_with_article(noun), f"the {noun}")) + choose(_actions(motion, plural=False))
    determiner = choose(SINGLE_DETERMINERS)
    return _opening(choose, "there is") + _moving(determiner, clause, motion, choose, MOTION_PLACES)


def _say_count(clauses: tuple[Clause, ...], motions: Motions, choose: Choose) -> str:
    clause, motion = clauses[0], motions[0]
    word = NUMBER_WORDS[clause.count]
    if motion is not None and choose(("phrase",) * 4 + ("action",)) == "action":
        number, noun = choose((word, str(clause.count))), _noun(clause, None, choose)
        return f"{number} {noun}" + choose(_actions(motion, plural=True))
    number = choose((word,) * 4 + (str(clause.count), f"exactly {word}"))
    return _opening(choose, "there are") + _moving(number, clause, motion, choose, MOTION_PLACES)


def _say_pair(clauses: tuple[Clause, ...], motions: Motions, choose: Choose) -> str:
    moving = tuple(zip(clauses, motions, strict=True))
    forms = ["phrase"] * 5
    if clauses[0].color is not None:
        forms.append("predicate")
    if None not in motions:
        forms.append("action")
    form = choose(forms)
    if form == "predicate":
        return " and ".join(_predicate(clause, motion, choose) for clause, motion in moving)
    if form == "action":
        return " and ".join(
            f"{_with_article(_noun(clause, None, choose))} {MOTIONS[motion][0]}" for clause, motion in moving
        )
    place = "first" if motions == (None, None) else choose(("first", "first", "that"))
    joiner = choose(JOINERS) if place == "first" else " and "
    determiner = choose(PAIR_DETERMINERS)
    opening = _opening(choose, "there is")
    return opening + joiner.join(_moving(determiner, *each, choose, (place,)) for each in moving)


def _say_position(clauses: tuple[Clause, ...], motions: Motions, choose: Choose) -> str:
    target, subject = (_noun(clause, motion, choose) for clause, motion in zip(clauses, motions, strict=True))
    relation = clauses[1].position[0]
    form = choose(("phrase",) * 6 + ("definite", "fronted"))
    if form == "definite":
        return f"the {subject} is {choose(PLACES[relation])} the {target}"
    if form == "fronted":
        place = choose(FRONTED_PLACES[relation])
        return f"{place} {_with_article(target)} there is {_with_article(subject)}"
    opening = _opening(choose, "there is")
    return f"{opening}{_with_article(subject)} {choose(PLACES[relation])} {_with_article(target)}"


_SAYERS = {
    "single_object": _say_one,
    "colors": _say_one,
    "counting": _say_count,
    "two_object": _say_pair,
    "color_attr": _say_pair,
    "position": _say_position,
}


def _opening(choose: Choose, there: str) -> str:
    return choose(OPENINGS).replace("{there}", there)


def _predicate(clause: Clause, motion: str | None, choose: Choose) -> str:
    return f"the {_noun(Clause(clause.cls), motion, choose)} is {clause.color}"


def _noun(clause: Clause, motion: str | None, choose: Choose) -> str:
    """Participle, colour and noun, without determiner."""
    words = [] if motion is None else [MOTIONS[motion][1]]
    if clause.color is not None:
        words.append(choose(COLOR_FORMS).format(clause.color))
    words.append(choose((SINGULARS if clause.count == 1 else PLURALS)[clause.cls]))
    return " ".join(words)


def _moving(determiner: str, clause: Clause, motion: str | None, choose: Choose, places: Sequence[str]) -> str:
    """A noun phrase, its motion said before the noun, in a relative clause or behind the noun."""
    place = "first" if motion is None else choose(places)
    noun = _noun(clause, motion if place == "first" else None, choose)
    phrase = _with_article(noun) if determiner == "a" else f"{determiner} {noun}"
    if place == "that":
        return f"{phrase} that {MOTIONS[motion][0] if clause.count == 1 else motion}"
    return f"{phrase} {MOTIONS[motion][1]}" if place == "last" else phrase


def _actions(motion: str, plural: bool) -> tuple[str, ...]:
    if plural:
        return f" {motion}", f" are {MOTIONS[motion][1]}"
    return f" {MOTIONS[motion][0]}", f" is {MOTIONS[motion][1]}"


def _with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun
