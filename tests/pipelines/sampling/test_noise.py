"""Noise of a sample depends on its generator alone."""

import pytest
import torch

from pocket_diffusers.pipelines.sampling.noise import check_generator, draw_noise, own_generators

SHAPE = (3, 5, 7)  # 105 values: not a multiple of 16, where torch.randn of a batch differs from that of a sample


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_listed_seeds_do_not_depend_on_the_batch():
    batch = draw_noise(3, SHAPE, seeded(5, 6, 7))
    for index, seed in enumerate((5, 6, 7)):
        assert torch.equal(batch[index], torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)))
        assert torch.equal(batch[index : index + 1], draw_noise(1, SHAPE, seeded(seed)))


def test_single_generator_draws_sample_after_sample():
    generator = torch.Generator().manual_seed(0)
    singles = torch.cat([draw_noise(1, SHAPE, generator) for _ in range(4)])
    assert torch.equal(draw_noise(4, SHAPE, *seeded(0)), singles)
    assert torch.equal(draw_noise(2, SHAPE, *seeded(0)), singles[:2])


def test_without_generator_follows_the_global_seed():
    torch.manual_seed(3)
    first = draw_noise(2, SHAPE)
    torch.manual_seed(3)
    assert torch.equal(first, draw_noise(2, SHAPE))
    assert first.dtype == torch.float32


@pytest.mark.parametrize(
    ("generator", "message"),
    [(seeded(1, 2), "a list of 2, but 3 samples"), (7, "not int"), ([torch.Generator(), 1, 2], "not int")],
)
def test_bad_generator(generator, message):
    with pytest.raises(ValueError, match=message):
        check_generator(generator, 3)


def test_generators_of_samples_are_the_same_whatever_the_batch():
    def draws(generators):
        return [torch.rand(3, generator=own).tolist() for own in generators]

    one = draws(own_generators(3, torch.Generator().manual_seed(1)))
    assert draws(own_generators(1, torch.Generator().manual_seed(1))) == one[:1] and one[0] != one[1] != one[2]
    given = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    both = draws(own_generators(2, given))
    assert draws(own_generators(1, [torch.Generator().manual_seed(6)])) == both[1:]
    torch.manual_seed(0)
    free = draws(own_generators(2))
    torch.manual_seed(0)
    assert draws(own_generators(2)) == free
    with pytest.raises(ValueError, match="generator is a list of 2, but 3 samples"):
        own_generators(3, given)
