"""How one person moves differently from another."""

from dataclasses import dataclass

import numpy as np

# Every field is drawn evenly between two bounds.
BOUNDS = {
    "tempo": (0.92, 1.08),
    "stride": (0.9, 1.06),
    "arm_swing": (0.65, 1.25),
    "bounce": (0.7, 1.3),
    "size": (0.9, 1.1),
    "stance": (0.085, 0.12),
    "splay": (4.0, 14.0),
    "lean": (-2.0, 5.0),
    "gaze": (-2.0, 10.0),
    "arm_gap": (7.0, 14.0),
    "elbow": (12.0, 28.0),
    "height": (0.935, 0.95),
    "phase": (0.0, 6.28),
}


@dataclass(frozen=True)
class Style:
    """The manner of one person; factors are of what an average person does.

    Args:
        tempo: factor of the time that a step or a gesture takes.
        stride: factor of the length of a step.
        arm_swing: factor of the swing of the arms in a gait.
        bounce: factor of the rise and sway of the pelvis in a gait.
        size: factor of the extent of gestures.
        stance: metres from the middle to each foot.
        splay: degrees by which the toes point outward.
        lean: degrees by which the trunk leans forward.
        gaze: degrees by which the head looks down.
        arm_gap: degrees between a hanging arm and the body.
        elbow: degrees by which a hanging arm is bent.
        height: metres of the pelvis above the floor in standing.
        phase: radians at which breathing and swaying start.
    """

    tempo: float
    stride: float
    arm_swing: float
    bounce: float
    size: float
    stance: float
    splay: float
    lean: float
    gaze: float
    arm_gap: float
    elbow: float
    height: float
    phase: float


def sample_style(rng: np.random.Generator) -> Style:
    """Draw a person."""
    return Style(**{name: float(rng.uniform(*bounds)) for name, bounds in BOUNDS.items()})
