"""The words of PocketWorld's captions."""

from .scene import SHAPES

Motions = tuple[str | None, ...]  # a motion program, or None, for each clause

NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
MOTIONS = {  # program -> third person, participle
    "slide": ("slides", "sliding"),
    "orbit": ("orbits", "orbiting"),
    "bounce": ("bounces", "bouncing"),
    "spin": ("spins", "spinning"),
    "hop": ("hops", "hopping"),
}

# An option said twice is twice as likely; the first option of every choice is GenEval's wording.
OPENINGS = ("a photo of ",) * 4 + (
    "a picture of ",
    "an image of ",
    "a rendering of ",
    "the picture shows ",
    "",
    "",
    "{there} ",
)
SINGULARS = {shape: (shape,) for shape in SHAPES}
SINGULARS["sphere"] = ("sphere",) * 7 + ("ball",)
SINGULARS["torus"] = ("torus",) * 6 + ("ring", "donut")
PLURALS = {shape: tuple(noun + "s" for noun in nouns) for shape, nouns in SINGULARS.items()}
PLURALS["torus"] = ("toruses",) * 5 + ("tori", "rings", "donuts")
COLOR_FORMS = ("{}",) * 7 + ("{}-colored",)
SINGLE_DETERMINERS = ("a", "a", "a", "a", "one", "a single")
PAIR_DETERMINERS = ("a", "a", "a", "a", "one")
MOTION_PLACES = ("first", "that", "last")  # participle before the noun, relative clause, participle behind
JOINERS = (" and ", " and ", " and ", " together with ")
PLACES = {
    "left of": ("left of", "left of", "to the left of", "on the left of"),
    "right of": ("right of", "right of", "to the right of", "on the right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "beneath", "under"),
}
FRONTED_PLACES = {
    relation: tuple(dict.fromkeys(place for place in places if place not in ("left of", "right of")))
    for relation, places in PLACES.items()
}
