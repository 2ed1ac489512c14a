"""The grammar of hybrid networks: one string a stage, a letter a block, C for convolution and T for transformer."""

from collections.abc import Sequence

LETTERS = "CT"


def check_stages(stages: Sequence[str], widths: Sequence[int], name: str = "stages") -> tuple[str, ...]:
    """The strings of a network with one stage for each of `widths`.

    Args:
        stages: such as ("CC", "CCC", "CCTT", "TT"), from the highest resolution to the lowest.
        widths: channels of the stages.
        name: of the argument, for errors.

    Raises:
        ValueError: another number of stages, an empty stage, or a letter that is neither C nor T.
    """
    if isinstance(stages, str) or len(stages) != len(widths):
        raise ValueError(f"{name} must be {len(widths)} strings, one for each of widths {[*widths]}, not {stages!r}.")
    for stage in stages:
        if not stage or set(stage) - set(LETTERS):
            raise ValueError(
                f"{name} holds {stage!r}; a stage is one or more letters C (convolution), T (transformer)."
            )
    return tuple(stages)
