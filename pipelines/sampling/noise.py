"""Starting noise: the same for a sample whatever its batch, the number format and the device."""

import torch
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float
from torch import Tensor

Generators = torch.Generator | list[torch.Generator]


def check_generator(generator: Generators | None, samples: int) -> None:
    """Refuses what is neither None, a `torch.Generator` nor a list of `samples` of them.

    Raises:
        ValueError: with the length that is wanted.
    """
    if isinstance(generator, list):
        if len(generator) != samples:
            raise ValueError(
                f"generator is a list of {len(generator)}, but {samples} samples are asked for: "
                "pass one generator for each sample, or a single one."
            )
        kinds = {type(g).__name__ for g in generator if not isinstance(g, torch.Generator)}
    else:
        kinds = set() if generator is None or isinstance(generator, torch.Generator) else {type(generator).__name__}
    if kinds:
        raise ValueError(
            f"generator must be a torch.Generator or a list of them, not {', '.join(sorted(kinds))}: "
            "use torch.Generator().manual_seed(seed)."
        )


def draw_noise(
    samples: int,
    shape: tuple[int, ...],
    generator: Generators | None = None,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "samples ..."]:
    """Standard normal noise in float32, `[samples, *shape]`, drawn one sample after the other.

    With a list, sample i depends on generator i alone: the same seed gives the same sample whatever the batch. With
    a single generator sample i gets its i-th draw, so the first samples of a larger batch are those of a smaller.
    Noise is drawn on the generator's device (the CPU without one) and then moved, so a CPU seed gives one result
    on every device.

    Raises:
        ValueError: when a list of generators has not `samples` entries.
    """
    check_generator(generator, samples)
    generators = generator if isinstance(generator, list) else [generator] * samples
    draws = [
        randn_tensor((1, *shape), generator=g, device=g.device if g else torch.device("cpu"), dtype=torch.float32)
        for g in generators
    ]
    return torch.cat([draw.to(device) for draw in draws])


def own_generators(samples: int, generator: Generators | None = None) -> list[torch.Generator]:
    """A generator of the CPU for each sample, seeded from those given: for calls that draw again and again.

    With a list, sample i depends on generator i alone. With a single generator (None: torch's own) sample i gets the
    i-th seed that it draws, so the first samples of a larger batch are those of a smaller.

    Raises:
        ValueError: when a list of generators has not `samples` entries.
    """
    check_generator(generator, samples)
    generators = generator if isinstance(generator, list) else [generator] * samples
    places = [own.device if own else "cpu" for own in generators]
    pairs = zip(generators, places, strict=True)
    seeds = [int(torch.randint(2**62, (), generator=own, device=place)) for own, place in pairs]
    return [torch.Generator().manual_seed(seed) for seed in seeds]
