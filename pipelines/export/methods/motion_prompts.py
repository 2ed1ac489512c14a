"""Prompts of motions that an export rehearses with: among them they have every word of the motion world's captions."""

SUBJECTS = ("a person", "the person", "someone", "a man", "a woman", "a figure")
JOINERS = (", then", " and then", ", and afterwards", " and after that")
ACTIONS = (
    "walks forward slowly",
    "turns 90 degrees to the left",
    "jumps up two times",
    "waves with both hands",
    "quickly runs straight ahead",
    "raises both arms above the head",
    "walks in a circle to the right",
    "kicks forward with the left foot",
    "crouches down three times",
    "stands still",
    "steps backward at a slow pace",
    "punches with both fists in turn",
    "makes a half turn to the right",
    "lifts the left arm sideways",
    "sprints forward",
    "hops on both feet in place twice",
    "waves both arms in greeting",
    "sidesteps to the left fast",
    "bends the knees deeply once",
    "turns around to the right",
    "boxes with the right fist four times",
    "strolls ahead",
    "walks counterclockwise in a circle",
    "lifts both arms up to the sides",
    "leaps forward with both feet",
    "does not move",
    "squats down",
    "raises the right arm in front of the body",
    "walks sideways to the right",
    "makes a quarter turn to the left",
    "jogs straight ahead",
    "walks backwards",
    "steps sideways to the left",
    "kicks with the right leg",
    "makes a full turn to the left",
    "waits",
    "jumps backwards",
    "turns 360 degrees to the right",
    "walks around a circle clockwise",
    "raises the left arm to the side",
    "turns in a full circle to the left",
    "punches with the left hand",
    "turns 180 degrees to the right",
)


def motion_prompt(index: int) -> str:
    """A prompt of so many; the first thousand differ.

    Args:
        index: from 0 up; the same number gives the same prompt.
    """
    turn, action = divmod(index, len(ACTIONS))
    joiner, subject = JOINERS[index % len(JOINERS)], SUBJECTS[index // 2 % len(SUBJECTS)]
    return f"{subject} {ACTIONS[action]}{joiner} {ACTIONS[(action + turn + 1) % len(ACTIONS)]}"
