"""Captions of PocketWorld: GenEval's six task types as structured clauses, said in English and read back.

A `Description` is what a caption claims, in the metadata schema of GenEval (djghosh13/geneval).  `caption`
says it, `parse` is the exact inverse over every sentence that `caption` can say, and `describes` holds it
against ground truth by GenEval's own rules.  Pure Python, no torch.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .scene import COLORS, SHAPES

if TYPE_CHECKING:
    import numpy as np

Box = Sequence[float]  # x0, y0, x1, y1 in pixels, y down
Motions = tuple[str | None, ...]

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
RELATIONS = ("left of", "right of", "above", "below")
COUNTS = (2, 3, 4, 5, 6)
POSITION_THRESHOLD = 0.1  # of the summed box sizes, GenEval's default
MIN_COMPONENT = 0.5  # of the normalised offset, GenEval's constant

NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
MOTIONS = {  # program -> third person, participle
    "slide": ("slides", "sliding"),
    "orbit": ("orbits", "orbiting"),
    "bounce": ("bounces", "bouncing"),
    "spin": ("spins", "spinning"),
    "hop": ("hops", "hopping"),
}

# An option said twice is twice as likely; the first option of every choice is GenEval's wording.
_OPENINGS = ("a photo of ",) * 4 + (
    "a picture of ",
    "an image of ",
    "a rendering of ",
    "the picture shows ",
    "",
    "",
    "{there} ",
)
_SINGULARS = {shape: (shape,) for shape in SHAPES}
_SINGULARS["sphere"] = ("sphere",) * 7 + ("ball",)
_SINGULARS["torus"] = ("torus",) * 6 + ("ring", "donut")
_PLURALS = {shape: tuple(noun + "s" for noun in nouns) for shape, nouns in _SINGULARS.items()}
_PLURALS["torus"] = ("toruses",) * 5 + ("tori", "rings", "donuts")
_COLOR_FORMS = ("{}",) * 7 + ("{}-colored",)
_SINGLE_DETERMINERS = ("a", "a", "a", "a", "one", "a single")
_PAIR_DETERMINERS = ("a", "a", "a", "a", "one")
_MOTION_PLACES = ("first", "that", "last")  # participle before the noun, relative clause, participle behind
_JOINERS = (" and ", " and ", " and ", " together with ")
_PLACES = {
    "left of": ("left of", "left of", "to the left of", "on the left of"),
    "right of": ("right of", "right of", "to the right of", "on the right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "beneath", "under"),
}
_FRONTED_PLACES = {
    relation: tuple(dict.fromkeys(place for place in places if place not in ("left of", "right of")))
    for relation, places in _PLACES.items()
}

Choose = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Clause:
    """`count` objects of class `cls`, all of `color` when given, each standing in `position` to the objects
    of an earlier clause: (relation, index of that clause)."""

    cls: str
    count: int = 1
    color: str | None = None
    position: tuple[str, int] | None = None

    def to_metadata(self) -> dict[str, Any]:
        """GenEval's clause: `class`, `count` and, where present, `color` and `position`."""
        record: dict[str, Any] = {"class": self.cls, "count": self.count}
        if self.color is not None:
            record["color"] = self.color
        if self.position is not None:
            record["position"] = list(self.position)
        return record

    @classmethod
    def from_metadata(cls, record: Mapping[str, Any]) -> "Clause":
        """The clause of a GenEval record; raises ValueError for a missing or an unknown key."""
        unknown = set(record) - {"class", "count", "color", "position"}
        if unknown or not {"class", "count"} <= set(record):
            raise ValueError(f"a clause has keys {sorted(record)}; it needs class, count and may have color, position.")
        position = record.get("position")
        place = None if position is None else (str(position[0]), int(position[1]))
        return cls(record["class"], record["count"], record.get("color"), place)


@dataclass(frozen=True)
class Description:
    """What a caption claims: `include` clauses all hold and no `exclude` clause does (GenEval's metadata).

    Classes are free-form here, so GenEval's own records fit; `caption` and `parse` know PocketWorld's words
    only.  In a position description the target is clause 0 and the subject, said first, is clause 1, as in
    GenEval.
    """

    tag: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...] = ()

    def __post_init__(self) -> None:
        if self.tag not in TAGS:
            raise ValueError(f"tag is {self.tag!r}; it must be one of {', '.join(TAGS)}.")
        if not self.include:
            raise ValueError("include is empty; a description needs at least one clause.")
        for clause in (*self.include, *self.exclude):
            if clause.count < 1:
                raise ValueError(f"count of {clause.cls!r} is {clause.count}; it must be at least 1.")
        for index, clause in enumerate(self.include):
            if clause.position is not None:
                _check_position(clause.position, index)

    def to_metadata(self, prompt: str | None = None) -> dict[str, Any]:
        """GenEval's record: `tag`, `include`, `exclude` (only when there is one) and `prompt`, by default the
        caption in GenEval's wording."""
        include = [clause.to_metadata() for clause in self.include]
        record: dict[str, Any] = {"tag": self.tag, "include": include}
        if self.exclude:
            record["exclude"] = [clause.to_metadata() for clause in self.exclude]
        record["prompt"] = caption(self, paraphrase=False) if prompt is None else prompt
        return record

    @classmethod
    def from_metadata(cls, record: Mapping[str, Any]) -> "Description":
        """The description of a GenEval record; keys other than tag, include and exclude are not read."""
        missing = {"tag", "include"} - set(record)
        if missing:
            raise ValueError(f"the record has no {' and no '.join(sorted(missing))}; both are required.")
        include = tuple(Clause.from_metadata(clause) for clause in record["include"])
        exclude = tuple(Clause.from_metadata(clause) for clause in record.get("exclude", ()))
        return cls(record["tag"], include, exclude)


def single_object(shape: str) -> Description:
    """One object of a shape."""
    return Description("single_object", (Clause(shape),))


def two_object(first: str, second: str) -> Description:
    """Two objects of different shapes."""
    return Description("two_object", (Clause(first), Clause(second)))


def counting(shape: str, count: int) -> Description:
    """Exactly `count` objects of a shape."""
    return Description("counting", (Clause(shape, count),), (Clause(shape, count + 1),))


def colors(color: str, shape: str) -> Description:
    """One coloured object."""
    return Description("colors", (Clause(shape, color=color),))


def position(subject: str, relation: str, target: str) -> Description:
    """A subject that stands `relation` of a target of another shape; the target is clause 0."""
    return Description("position", (Clause(target), Clause(subject, position=(relation, 0))))


def color_attr(first: tuple[str, str], second: tuple[str, str]) -> Description:
    """Two objects, (color, shape) each, of different shapes and colours."""
    return Description("color_attr", tuple(Clause(shape, color=color) for color, shape in (first, second)))


# --- saying -------------------------------------------------------------------------------------------------


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
    _check_world(description)
    if not paraphrase:
        return _say(description, motions, lambda options: options[0])
    return _say(description, motions, lambda options: options[int(rng.integers(len(options)))])


def all_captions(description: Description, motions: Motions | None = None) -> Iterator[str]:
    """Every sentence that `caption` can say of a description, GenEval's wording first."""
    motions = _checked_motions(description, motions)
    _check_world(description)
    path: list[int] = []
    while True:
        walk = _Walk(path)
        yield _say(description, motions, walk)
        path = walk.next_path()
        if not path:
            return


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
    determiner = choose(_SINGLE_DETERMINERS)
    return _opening(choose, "there is") + _moving(determiner, clause, motion, choose, _MOTION_PLACES)


def _say_count(clauses: tuple[Clause, ...], motions: Motions, choose: Choose) -> str:
    clause, motion = clauses[0], motions[0]
    word = NUMBER_WORDS[clause.count]
    if motion is not None and choose(("phrase",) * 4 + ("action",)) == "action":
        number, noun = choose((word, str(clause.count))), _noun(clause, None, choose)
        return f"{number} {noun}" + choose(_actions(motion, plural=True))
    number = choose((word,) * 4 + (str(clause.count), f"exactly {word}"))
    return _opening(choose, "there are") + _moving(number, clause, motion, choose, _MOTION_PLACES)


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
    joiner = choose(_JOINERS) if place == "first" else " and "
    determiner = choose(_PAIR_DETERMINERS)
    opening = _opening(choose, "there is")
    return opening + joiner.join(_moving(determiner, *each, choose, (place,)) for each in moving)


def _say_position(clauses: tuple[Clause, ...], motions: Motions, choose: Choose) -> str:
    target, subject = (_noun(clause, motion, choose) for clause, motion in zip(clauses, motions, strict=True))
    relation = clauses[1].position[0]
    form = choose(("phrase",) * 6 + ("definite", "fronted"))
    if form == "definite":
        return f"the {subject} is {choose(_PLACES[relation])} the {target}"
    if form == "fronted":
        place = choose(_FRONTED_PLACES[relation])
        return f"{place} {_with_article(target)} there is {_with_article(subject)}"
    opening = _opening(choose, "there is")
    return f"{opening}{_with_article(subject)} {choose(_PLACES[relation])} {_with_article(target)}"


_SAYERS = {
    "single_object": _say_one,
    "colors": _say_one,
    "counting": _say_count,
    "two_object": _say_pair,
    "color_attr": _say_pair,
    "position": _say_position,
}


def _opening(choose: Choose, there: str) -> str:
    return choose(_OPENINGS).replace("{there}", there)


def _predicate(clause: Clause, motion: str | None, choose: Choose) -> str:
    return f"the {_noun(Clause(clause.cls), motion, choose)} is {clause.color}"


def _noun(clause: Clause, motion: str | None, choose: Choose) -> str:
    """Participle, colour and noun, without determiner."""
    words = [] if motion is None else [MOTIONS[motion][1]]
    if clause.color is not None:
        words.append(choose(_COLOR_FORMS).format(clause.color))
    words.append(choose((_SINGULARS if clause.count == 1 else _PLURALS)[clause.cls]))
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


# --- reading ------------------------------------------------------------------------------------------------


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
            if meaning is not None and _is_world(meaning[0]):
                return meaning
    raise ValueError(f"text is {text!r}; it must be a PocketWorld caption such as 'a photo of a red cube'.")


def _articles_agree(text: str) -> bool:
    return all((article == "an") == (letter in "aeiou") for article, letter in _ARTICLE.findall(text))


_ARTICLE = re.compile(r"\b(an?) (\w)")
_NOUNS = (*_SINGULARS.items(), *_PLURALS.items())
_SHAPE_OF = {noun: shape for shape, nouns in _NOUNS for noun in nouns}
_RELATION_OF = {place: relation for relation, places in _PLACES.items() for place in places}
_COUNT_OF = {said: count for count, word in NUMBER_WORDS.items() for said in (word, str(count))}
_MOTION_OF = {form: motion for motion, forms in MOTIONS.items() for form in (motion, *forms)}


def _one_of(words: Collection[str], name: str = "") -> str:
    group = f"?P<{name}>" if name else "?:"
    return f"({group}{'|'.join(sorted(map(re.escape, set(words)), key=len, reverse=True))})"


_THIRD_PERSONS, _PARTICIPLES = zip(*MOTIONS.values(), strict=True)
_VERBS = tuple(MOTIONS)
_SINGULAR_WORDS = tuple(noun for nouns in _SINGULARS.values() for noun in nouns)
_PLURAL_WORDS = tuple(noun for nouns in _PLURALS.values() for noun in nouns)
_FRONTED_WORDS = tuple(place for places in _FRONTED_PLACES.values() for place in places)
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
    opening = _one_of([words.replace("{there}", "there is") for words in _OPENINGS])
    openings = _one_of([words.replace("{there}", "there are") for words in _OPENINGS])
    place, fronted = _one_of(_RELATION_OF, "place"), _one_of(_FRONTED_WORDS, "place")
    verb, verbs = _one_of(_VERBS, "verb0"), _one_of(_THIRD_PERSONS, "verb0")
    ing, last = _one_of(_PARTICIPLES, "ing0"), _one_of(_PARTICIPLES, "last0")
    plural, joiner = _one_of(_PLURAL_WORDS, "noun0"), _one_of(_JOINERS, "joiner")
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


# --- checks -------------------------------------------------------------------------------------------------


def _check_position(place: tuple[str, int], index: int) -> None:
    relation, target = place
    if relation not in RELATIONS:
        raise ValueError(f"relation is {relation!r}; it must be one of {', '.join(RELATIONS)}.")
    if not 0 <= target < index:
        raise ValueError(f"position of clause {index} points at clause {target}; it must be an earlier one.")


def _checked_motions(description: Description, motions: Motions | None) -> Motions:
    if motions is None:
        return (None,) * len(description.include)
    if len(motions) != len(description.include):
        clauses = len(description.include)
        raise ValueError(f"motions has {len(motions)} entries; it needs one for each of {clauses} clauses.")
    for motion in motions:
        if motion is not None and motion not in MOTIONS:
            raise ValueError(f"motion is {motion!r}; it must be None or one of {', '.join(MOTIONS)}.")
    return tuple(motions)


def _check_world(description: Description) -> None:
    for clause in description.include:
        if clause.cls not in SHAPES:
            raise ValueError(f"class is {clause.cls!r}; PocketWorld has {', '.join(SHAPES)}.")
        if clause.color is not None and clause.color not in COLORS:
            raise ValueError(f"color is {clause.color!r}; PocketWorld has {', '.join(COLORS)}.")
    if not _is_world(description):
        raise ValueError(f"description is {description}; its clauses do not fit its tag in PocketWorld.")


@lru_cache(maxsize=16384)
def _is_world(description: Description) -> bool:
    """Whether the clauses are exactly what the tag promises."""
    include = description.include
    shapes, tints = [clause.cls for clause in include], [clause.color for clause in include]
    if description.tag == "single_object":
        return len(include) == 1 and description == single_object(shapes[0])
    if description.tag == "colors":
        return len(include) == 1 and None not in tints and description == colors(tints[0], shapes[0])
    if description.tag == "counting":
        count = include[0].count
        return len(include) == 1 and count in COUNTS and description == counting(shapes[0], count)
    if len(include) != 2 or shapes[0] == shapes[1]:
        return False
    if description.tag == "two_object":
        return description == two_object(*shapes)
    if description.tag == "color_attr":
        pairs = list(zip(tints, shapes, strict=True))
        return None not in tints and tints[0] != tints[1] and description == color_attr(*pairs)
    place = include[1].position
    return place is not None and description == position(shapes[1], place[0], shapes[0])


# --- truth --------------------------------------------------------------------------------------------------


def relations(box_a: Box, box_b: Box) -> set[str]:
    """GenEval's relations of box a to box b, out of `RELATIONS`; two can hold at once.

    With centres c and sizes d: o = c_a - c_b, r = sign(o) max(abs(o) - 0.1 (d_a + d_b), 0).  None holds when
    both parts of r are below 1e-3 pixels; else r / norm(o), with the norm of the offset before it was
    shortened, is held against 0.5.

    Args:
        box_a, box_b: (x0, y0, x1, y1) in pixels, y down.

    Source: `relative_position` of djghosh13/geneval, evaluation/evaluate_images.py at af4902f.
    """
    offset_x, reach_x = _offset(box_a, box_b, 0)
    offset_y, reach_y = _offset(box_a, box_b, 1)
    if abs(reach_x) < 1e-3 and abs(reach_y) < 1e-3:
        return set()
    norm = math.hypot(offset_x, offset_y)
    x, y = reach_x / norm, reach_y / norm
    held = (x < -MIN_COMPONENT, x > MIN_COMPONENT, y < -MIN_COMPONENT, y > MIN_COMPONENT)
    return {relation for relation, holds in zip(RELATIONS, held, strict=True) if holds}


def _offset(box_a: Box, box_b: Box, axis: int) -> tuple[float, float]:
    """Centre offset along an axis in pixels, whole and shortened by a tenth of the summed sizes."""
    a0, a1, b0, b1 = (float(box[axis + side]) for box in (box_a, box_b) for side in (0, 2))
    offset = (a0 + a1) / 2 - (b0 + b1) / 2
    reach = max(abs(offset) - POSITION_THRESHOLD * (abs(a1 - a0) + abs(b1 - b0)), 0.0)
    return offset, math.copysign(reach, offset)


def exact_relation(box_a: Box, box_b: Box) -> str | None:
    """The relation of box a to box b when exactly one holds, else None."""
    held = relations(box_a, box_b)
    return held.pop() if len(held) == 1 else None


def describes(description: Description, objects: Sequence[tuple[str, str, Box]], exact: bool = False) -> bool:
    """Whether a description is true of ground truth objects by GenEval's rules.

    A clause takes the first `count` objects of its class, in the order given, and fails on fewer; all of them
    must have its colour; every (object, target) pair must hold its relation.  An exclude clause fails when
    there are at least `count` objects of its class.

    Args:
        description: what is claimed.
        objects: (shape, color, box xyxy in pixels) of every object of the picture.
        exact: also require that the claimed relation is the only one that holds.
    """
    found_by_clause: list[list[tuple[str, str, Box]]] = []
    for clause in description.include:
        found = [thing for thing in objects if thing[0] == clause.cls][: clause.count]
        if len(found) < clause.count or not _holds(clause, found, found_by_clause, exact):
            return False
        found_by_clause.append(found)
    shapes = [shape for shape, _, _ in objects]
    return all(shapes.count(clause.cls) < clause.count for clause in description.exclude)


def _holds(clause: Clause, found: list[Any], found_by_clause: list[list[Any]], exact: bool) -> bool:
    if clause.color is not None and any(color != clause.color for _, color, _ in found):
        return False
    if clause.position is None:
        return True
    relation, target = clause.position
    held = [relations(thing[2], other[2]) for thing in found for other in found_by_clause[target]]
    return all(each == {relation} if exact else relation in each for each in held)


# --- plans --------------------------------------------------------------------------------------------------


def sample_plan(
    rng: "np.random.Generator", tag: str, allowed_pairs: Collection[tuple[str, str]]
) -> tuple[Description, tuple[tuple[str, str], ...]]:
    """Draw a description of a tag, then the objects of a scene of which it is true and complete.

    Shapes, counts and relations are drawn evenly and colours evenly among those allowed.  The objects of a
    count all have one colour in half of the plans and are coloured independently in the other half.

    Args:
        rng: numpy Generator.
        tag: one of `TAGS`.
        allowed_pairs: the (color, shape) pairs that objects may have.

    Returns:
        The description, and (shape, color) of every object of the scene in the order of the include clauses;
        nothing else may stand in the scene.

    Raises:
        ValueError: an unknown tag, or allowed pairs from which the tag cannot be made.
    """
    if tag not in TAGS:
        raise ValueError(f"tag is {tag!r}; it must be one of {', '.join(TAGS)}.")
    singles, pairs = _palettes(frozenset(allowed_pairs), tag == "color_attr")
    palettes = singles if tag in ("single_object", "colors", "counting") else pairs
    if not palettes:
        raise ValueError(f"allowed_pairs has {len(allowed_pairs)} pairs, too few for a scene of tag {tag}.")
    shapes, choices = _pick(rng, palettes)
    if tag == "counting":
        return _counting_plan(rng, shapes[0], choices)
    tints = _pick(rng, choices)
    things = tuple(zip(shapes, tints, strict=True))
    if tag == "single_object":
        return single_object(*shapes), things
    if tag == "colors":
        return colors(tints[0], shapes[0]), things
    if tag == "two_object":
        return two_object(*shapes), things
    if tag == "color_attr":
        return color_attr(*zip(tints, shapes, strict=True)), things
    return position(shapes[1], _pick(rng, RELATIONS), shapes[0]), things


def _counting_plan(rng: "np.random.Generator", shape: str, choices: Any) -> tuple[Description, Any]:
    count = _pick(rng, COUNTS)
    if rng.random() < 0.5:
        things = ((shape, _pick(rng, choices)[0]),) * count
    else:
        things = tuple((shape, _pick(rng, choices)[0]) for _ in range(count))
    return counting(shape, count), things


def _pick(rng: "np.random.Generator", options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


@lru_cache(maxsize=64)
def _palettes(allowed: frozenset[tuple[str, str]], two_colors: bool) -> tuple[Any, Any]:
    """For single shapes and for ordered pairs of shapes: (shapes, colour choices) where there is a choice."""
    unknown = sorted(allowed - {(color, shape) for color in COLORS for shape in SHAPES})
    if unknown:
        raise ValueError(f"allowed_pairs holds {unknown[0]!r}; a pair is (color, shape) of PocketWorld.")
    tints = {shape: [color for color in COLORS if (color, shape) in allowed] for shape in SHAPES}
    singles = tuple(((shape,), tuple((color,) for color in tints[shape])) for shape in SHAPES if tints[shape])
    pairs = []
    for first in SHAPES:
        for second in SHAPES:
            choices = tuple((a, b) for a in tints[first] for b in tints[second] if not two_colors or a != b)
            if first != second and choices:
                pairs.append(((first, second), choices))
    return singles, tuple(pairs)
