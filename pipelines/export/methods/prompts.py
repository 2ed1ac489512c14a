"""Prompts that an export rehearses with: among them they have every word of PocketWorld's captions."""

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
NOUNS = ("cube", "sphere", "cylinder", "cone", "torus", "ball", "ring", "donut")
PLURALS = ("cubes", "spheres", "cylinders", "cones", "toruses", "tori", "balls", "rings", "donuts")
NUMBERS = ("two", "three", "four", "five", "six", "2", "3", "4", "5", "6")
MOTIONS = (  # program, third person, participle
    ("slide", "slides", "sliding"),
    ("orbit", "orbits", "orbiting"),
    ("bounce", "bounces", "bouncing"),
    ("spin", "spins", "spinning"),
    ("hop", "hops", "hopping"),
)
FORMS = (
    "a photo of {one}",
    "{number} {nouns} that {move}",
    "{one} above {other}",
    "an image of {one} to the left of {other}",
    "{one} that {moves} together with {other}",
    "there are {number} {color} {nouns}",
    "{one} right of {other}",
    "the picture shows {one} {moving}",
    "a rendering of one {color} {noun} below {other}",
    "{number} {nouns} {move} and {one} {moves}",
    "there is a single {color}-colored {noun}",
    "the {noun} is on the left of {other}",
    "a picture of {number} {nouns} that are {moving}",
    "beneath {one} there is {other}",
    "{one} over {other}",
    "{number} {nouns} under {one}",
    "exactly {number} {nouns}",
)


def prompt(index: int) -> str:
    """A prompt of so many; the first hundred differ.

    Args:
        index: from 0 up; the same number gives the same prompt.
    """
    turn, form = divmod(index, len(FORMS))
    color, noun = COLORS[index % len(COLORS)], NOUNS[index % len(NOUNS)]
    move, moves, moving = MOTIONS[turn % len(MOTIONS)]
    return FORMS[form].format(
        one=_with_article(f"{color} {noun}"),
        other=_with_article(f"{COLORS[(3 * index + 1) % len(COLORS)]} {NOUNS[(3 * index + 1) % len(NOUNS)]}"),
        color=color,
        noun=noun,
        nouns=PLURALS[(index // 2) % len(PLURALS)],
        number=NUMBERS[index % len(NUMBERS)],
        move=move,
        moves=moves,
        moving=moving,
    )


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
