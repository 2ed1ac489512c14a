"""Which numbers of steps a cache allows, counted by hand."""

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler, UNet2DModel

from pocket_diffusers.hub_models.layers.time_embedding_cache import put_cache
from pocket_diffusers.pipelines.sampling.cached_steps import check_cached_steps, scheduled_timesteps

EVERY_FIFTH = range(1, 1001, 200)  # of 1000 timesteps, as five steps take them


def unet(timesteps=None) -> UNet2DModel:
    with torch.device("meta"):
        made = UNet2DModel(
            block_out_channels=(8,), norm_num_groups=4, layers_per_block=1, down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",), add_attention=False,
        )  # fmt: skip
    if timesteps is not None:
        put_cache(made, timesteps)
    return made


def allowed(cached, scheduler) -> list[int]:
    found = []
    for steps in range(1, 61):
        try:
            check_cached_steps(unet(cached), scheduler, steps)
            found.append(steps)
        except ValueError:
            pass
    return found


@pytest.mark.parametrize("kind", [DDIMScheduler, PNDMScheduler])
def test_those_whose_timesteps_are_all_cached(kind):
    more = {"skip_prk_steps": True} if kind is PNDMScheduler else {}
    scheduler = kind(steps_offset=1, **more)
    by_hand = [n for n in range(1, 61) if {1 + i * (1000 // n) for i in range(n)} <= set(EVERY_FIFTH)]
    assert by_hand == [1, 5]
    assert allowed(EVERY_FIFTH, scheduler) == by_hand


def test_without_a_cache_and_with_a_whole_one_all_are():
    scheduler = DDIMScheduler()
    check_cached_steps(unet(), scheduler, 7)
    assert allowed(range(1000), scheduler) == list(range(1, 61))
    assert torch.equal(scheduler.timesteps, DDIMScheduler().timesteps)


@pytest.mark.parametrize(
    ("cached", "told"),
    [
        (range(1, 1000, 200), "1 or 5"),
        ([1], "1"),
        ([1, 501], "1 or 2"),
        ([*range(1, 1000, 100)], "1, 2, 5 or 10"),
        ([*range(1, 1000, 20)], "1, 2, 5, 10, 25 or 48 to 50"),
    ],
)
def test_the_refusal_counts_them(cached, told):
    with pytest.raises(ValueError) as error:
        check_cached_steps(unet(cached), DDIMScheduler(steps_offset=1), 7)
    assert str(error.value) == (
        f"num_inference_steps must be {told}, whose timesteps the UNet has cached, not 7: for others, quantise the "
        "pipeline that this one was made of again with --cache-steps 7."
    )


def test_a_scheduler_with_none_of_them():
    scheduler = EulerDiscreteScheduler(timestep_spacing="linspace")
    with pytest.raises(ValueError, match="not this EulerDiscreteScheduler: .* again with it and --cache-steps 7"):
        check_cached_steps(unet(EVERY_FIFTH), scheduler, 7)


@pytest.mark.parametrize(
    ("scheduler", "steps", "expected"),
    [
        (DDIMScheduler(steps_offset=1), 4, [751, 501, 251, 1]),
        (PNDMScheduler(skip_prk_steps=True, steps_offset=1), 2, [501, 1]),  # which calls the first again
        (PNDMScheduler(skip_prk_steps=True, steps_offset=1), 1000, list(range(1000))),
        (DDIMScheduler(num_train_timesteps=3), 3, [0, 1, 2]),
    ],
    ids=["ddim", "pndm", "all", "few"],
)
def test_timesteps_of_a_number_of_steps(scheduler, steps, expected):
    assert scheduled_timesteps(scheduler, steps) == expected
    assert scheduler.num_inference_steps is None, "the scheduler stays as it was"
