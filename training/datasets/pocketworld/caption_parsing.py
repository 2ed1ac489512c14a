"""Captions of PocketWorld read back: the exact inverse of `caption` over every sentence that it can say."""

import re
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any

from .descriptions import Description, color_attr, colors, counting, is_world, position, single_object, two_object
from .scene import COLORS
from .vocabulary import (
    FRONTED_PLACES,
    JOINERS,
    MOTIONS,
    NUMBER_WORDS,
    OPENINGS,
    PLACES,
    PLURALS,
    SINGULARS,
    Motions,
)


def parse(text: str) -> Description:
    """Read a caption back: the inverse of `caption`.

    Raises:
        ValueError: a text that `caption` cannot say.
    """
    return parse_with_motions(text)[0]


def parse_with_motions(text: str) -> tuple[Description, Motions]:
    """Read a caption back with the motion program, or None, of each include clause.

    Raises:
        ValueError: a text that `caption` cannot say.
    """
    if _articles_agree(text):
        for pattern, read in _grammar():
            match = pattern.fullmatch(text)
            meaning = read(match.groupdict()) if match else None
            if meaning is not None and is_world(meaning[0]):
                return meaning
    raise ValueError(f"text must be a PocketWorld caption such as 'a photo of a red cube', not {text!r}.")


def _articles_agree(text: str) -> bool:
    return all((article == "an") == (letter in "aeiou") for article, letter in _ARTICLE.findall(text))


_ARTICLE = re.compile(r"\b(an?) (\w)")
_NOUNS = (*SINGULARS.items(), *PLURALS.items())
_SHAPE_OF = {noun: shape for shape, nouns in _NOUNS for noun in nouns}
_RELATION_OF = {place: relation for relation, places in PLACES.items() for place in places}
_COUNT_OF = {said: count for count, word in NUMBER_WORDS.items() for said in (word, str(count))}
_MOTION_OF = {form: motion for motion, forms in MOTIONS.items() for form in (motion, *forms)}


def _one_of(words: Collection[str], name: str = "") -> str:
    group = f"?P<{name}>" if name else "?:"
    return f"({group}{'|'.join(sorted(map(re.escape, set(words)), key=len, reverse=True))})"


_THIRD_PERSONS, _PARTICIPLES = zip(*MOTIONS.values(), strict=True)
_VERBS = tuple(MOTIONS)
_SINGULAR_WORDS = tuple(noun for nouns in SINGULARS.values() for noun in nouns)
_PLURAL_WORDS = tuple(noun for nouns in PLURALS.values() for noun in nouns)
_FRONTED_WORDS = tuple(place for places in FRONTED_PLACES.values() for place in places)
_NUMBERS = tuple(_COUNT_OF)
_EXACT_NUMBERS = tuple(f"exactly {word}" for word in NUMBER_WORDS.values())


def _plain(i: int) -> str:
    return f"(?:{_one_of(_PARTICIPLES, f'ing{i}')} )?{_one_of(_SINGULAR_WORDS, f'noun{i}')}"


def _tinted(i: int) -> str:
    return f"(?:{_one_of(COLORS, f'color{i}')}(?:-colored)? )?{_one_of(_SINGULAR_WORDS, f'noun{i}')}"


def _moving_tinted(i: int) -> str:
    return f"(?:{_one_of(_PARTICIPLES, f'ing{i}')} )?{_tinted(i)}"


def _relative(i: int) -> str:
    return f"(?: that {_one_of(_THIRD_PERSONS, f'verb{i}')})?"


def _colored(i: int) -> str:
    return f"the {_plain(i)} is {_one_of(COLORS, f'color{i}')}"


def _acting(i: int) -> str:
    return f"an? {_tinted(i)} {_one_of(_THIRD_PERSONS, f'verb{i}')}"


@lru_cache(maxsize=1)
def _grammar() -> tuple[tuple[re.Pattern[str], Callable[[dict[str, str]], Any]], ...]:
    """Sentence patterns, each with the function that gives a match its meaning (None: parts disagree)."""
    opening = _one_of([words.replace("{there}", "there is") for words in OPENINGS])
    openings = _one_of([words.replace("{there}", "there are") for words in OPENINGS])
    place, fronted = _one_of(_RELATION_OF, "place"), _one_of(_FRONTED_WORDS, "place")
    verb, verbs = _one_of(_VERBS, "verb0"), _one_of(_THIRD_PERSONS, "verb0")
    ing, last = _one_of(_PARTICIPLES, "ing0"), _one_of(_PARTICIPLES, "last0")
    plural, joiner = _one_of(_PLURAL_WORDS, "noun0"), _one_of(JOINERS, "joiner")
    number, any_number = _one_of(_NUMBERS, "number"), _one_of(_NUMBERS + _EXACT_NUMBERS, "number")
    first = f"(?P<det0>an?|one) {_moving_tinted(0)}{_relative(0)}"
    second = f"(?P<det1>an?|one) {_moving_tinted(1)}{_relative(1)}"
    sentences = (
        (f"{opening}(?:an?|one|a single) {_moving_tinted(0)}(?: that {verbs}| {last})?", _read_one),
        (f"(?:an?|the) {_tinted(0)} (?:{verbs}|is {last})", _read_one),
        (_colored(0), _read_one),
        (f"{openings}{any_number} (?:{ing} )?{plural}(?: that {verb}| {last})?", _read_count),
        (f"{number} {plural} (?:{verb}|are {last})", _read_count),
        (f"{opening}{first}{joiner}{second}", _read_pair),
        (f"{_colored(0)} and {_colored(1)}", _read_pair),
        (f"{_acting(0)} and {_acting(1)}", _read_pair),
        (f"{opening}an? {_plain(1)} {place} an? {_plain(0)}", _read_position),
        (f"the {_plain(1)} is {place} the {_plain(0)}", _read_position),
        (f"{fronted} an? {_plain(0)} there is an? {_plain(1)}", _read_position),
    )
    return tuple((re.compile(pattern), read) for pattern, read in sentences)


def _read_one(words: dict[str, str]) -> tuple[Description, Motions] | None:
    motion, agrees = _motion_said(words, 0)
    shape, color = _SHAPE_OF[words["noun0"]], words.get("color0")
    meaning = single_object(shape) if color is None else colors(color, shape)
    return (meaning, (motion,)) if agrees else None


def _read_count(words: dict[str, str]) -> tuple[Description, Motions] | None:
    motion, agrees = _motion_said(words, 0)
    count = _COUNT_OF[words["number"].removeprefix("exactly ")]
    return (counting(_SHAPE_OF[words["noun0"]], count), (motion,)) if agrees else None


def _read_pair(words: dict[str, str]) -> tuple[Description, Motions] | None:
    (first, agrees_0), (second, agrees_1) = _motion_said(words, 0), _motion_said(words, 1)
    shapes = [_SHAPE_OF[words[f"noun{i}"]] for i in (0, 1)]
    tints = [words.get(f"color{i}") for i in (0, 1)]
    relative = bool(words.get("verb0") or words.get("verb1"))
    mixed = relative and bool(words.get("ing0") or words.get("ing1"))
    joined = not relative or words.get("joiner", " and ") == " and "
    same_determiner = (words.get("det0") == "one") == (words.get("det1") == "one")
    same_kind = (tints[0] is None) == (tints[1] is None)
    if mixed or not (agrees_0 and agrees_1 and joined and same_determiner and same_kind):
        return None
    if tints[0] is None:
        return two_object(*shapes), (first, second)
    return color_attr((tints[0], shapes[0]), (tints[1], shapes[1])), (first, second)


def _read_position(words: dict[str, str]) -> tuple[Description, Motions]:
    subject, target = _SHAPE_OF[words["noun1"]], _SHAPE_OF[words["noun0"]]
    meaning = position(subject, _RELATION_OF[words["place"]], target)
    return meaning, (_motion_said(words, 0)[0], _motion_said(words, 1)[0])


def _motion_said(words: dict[str, str], index: int) -> tuple[str | None, bool]:
    """The motion program of a clause, and whether it was said no more than once."""
    said = [words[key] for key in (f"ing{index}", f"verb{index}", f"last{index}") if words.get(key)]
    return (_MOTION_OF[said[0]] if said else None), len(said) < 2
