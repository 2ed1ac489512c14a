"""A UNet's cache of time embeddings: the layers that it replaces as the oracle, and what it refuses."""

import copy

import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel, UNet2DModel
from torch import nn

from pocket_diffusers.hub_models.layers.time_embedding_cache import (
    TimeEmbeddingCache,
    cached_widths,
    compute_projections,
    put_cache,
    replaced_layers,
)

TIMESTEPS = [999, 500, 499, 0, 250.5]


def conditional_unet(**changes) -> UNet2DConditionModel:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, "cross_attention_dim": 12}
    return UNet2DConditionModel(sample_size=8, attention_head_dim=8, **{**blocks, **sizes, **changes}).eval()


def unconditional_unet(**changes) -> UNet2DModel:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "add_attention": False}
    sizes = {"block_out_channels": (16,), "layers_per_block": 1, "norm_num_groups": 8}
    return UNet2DModel(sample_size=8, in_channels=4, out_channels=4, **{**blocks, **sizes, **changes}).eval()


@torch.no_grad()
def answer(unet: nn.Module, timesteps) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 12, generator=generator)
    return unet(x, timesteps, *([text] if isinstance(unet, UNet2DConditionModel) else [])).sample


def with_cache(unet: nn.Module, timesteps=TIMESTEPS) -> nn.Module:
    cached = copy.deepcopy(unet)
    put_cache(cached, timesteps, compute_projections(cached, timesteps))
    return cached


@pytest.mark.parametrize(
    "unet",
    [
        conditional_unet(),
        conditional_unet(resnet_time_scale_shift="scale_shift"),
        conditional_unet(resnet_skip_time_act=True, down_block_types=("ResnetDownsampleBlock2D", "DownBlock2D")),
        unconditional_unet(),
    ],
    ids=["conditional", "scale-and-shift", "skipped-activation", "unconditional"],
)
def test_a_unet_computes_the_same_at_each_cached_timestep(unet):
    cached = with_cache(unet)
    assert not any("time_emb" in name for name, _ in cached.named_parameters())
    timesteps = torch.tensor(TIMESTEPS)  # of numbers that are no tensors UNet2DModel takes the whole part
    answers = [answer(unet, timestep) for timestep in timesteps]
    for timestep, expected in zip(timesteps, answers, strict=True):
        assert float((answer(cached, timestep) - expected).norm() / expected.norm()) < 2**-10
    assert float((answers[0] - answers[3]).norm() / answers[0].norm()) > 2**-6


@pytest.mark.parametrize("batch", [torch.tensor([499, 999]), torch.tensor([250.5, 0.0]), torch.tensor(500)])
def test_each_picture_of_a_batch_may_have_its_own_timestep(batch):
    unet = conditional_unet()
    expected = answer(unet, batch)
    assert float((answer(with_cache(unet), batch) - expected).norm() / expected.norm()) < 2**-10


def test_the_table_holds_each_block_s_projection_of_the_embedding():
    unet = conditional_unet()
    table = compute_projections(unet, TIMESTEPS)
    with torch.no_grad():
        embedded = nn.functional.silu(unet.time_embedding(unet.time_proj(torch.tensor(TIMESTEPS))))
        last = unet.up_blocks[-1].resnets[-1].time_emb_proj(embedded)
    names = [name for name, _ in unet.named_modules() if name.endswith("time_emb_proj")]
    assert replaced_layers(unet) == ["time_embedding.linear_1", "time_embedding.linear_2", *names]
    width = sum(unet.get_submodule(name).out_features for name in names)
    assert table.dtype == torch.float16 and table.shape == (5, width) and cached_widths(unet) == width
    start = sum(unet.get_submodule(n).out_features for n in names[: names.index("up_blocks.1.resnets.1.time_emb_proj")])
    torch.testing.assert_close(table[:, start : start + 16].float(), last, rtol=2**-10, atol=2**-12)


def test_bfloat16_tells_all_timesteps_apart_and_leaves_the_table_as_it_is():
    timesteps = list(range(1000))
    cached = with_cache(unconditional_unet(), timesteps)
    table = cached.time_proj.projections.clone()
    cached.to(torch.bfloat16)
    assert torch.equal(cached.time_proj.projections, table) and table.dtype == torch.float16
    assert torch.equal(cached.time_proj(torch.tensor([998, 999])), table[998:])
    assert not torch.equal(table[998], table[999])


def test_timesteps_that_are_not_cached_are_refused_with_what_to_do():
    cached = with_cache(unconditional_unet(), range(0, 1000, 20))
    message = (
        r"timestep must be one of the 50 that are cached \(0, 20, 40, ..., 940, 960, 980\), not 999: to have others, "
        "quantise the model that this one was made of again, with as many --cache-steps as the scheduler is to take"
    )
    with pytest.raises(ValueError, match=message):
        answer(cached, torch.tensor([20, 999]))
    assert isinstance(cached.time_proj, TimeEmbeddingCache) and "50 that are cached" in repr(cached)
    with pytest.raises(ValueError, match="timestep_cond must be None where time embeddings are cached"):
        cached.time_embedding(torch.zeros(1, 16), torch.zeros(1, 16))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: conditional_unet(
                addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=36
            ),
            "the time embedding of UNet2DConditionModel must depend on the timestep alone to be cached, not on "
            "add_embedding too",
        ),
        (lambda: conditional_unet(class_embed_type="timestep"), "not on class_embedding too"),
        (lambda: unconditional_unet(num_class_embeds=3), "UNet2DModel must depend .*, not on class_embedding too"),
        (lambda: conditional_unet(time_cond_proj_dim=8), "not on time_embedding.cond_proj too"),
        (lambda: conditional_unet(time_embedding_act_fn="silu"), "not on time_embed_act too"),
        (lambda: unconditional_unet(time_embedding_type="fourier"), "time_proj of .* must be sinusoidal .*, not Gauss"),
        (
            lambda: conditional_unet(down_block_types=("KDownBlock2D", "DownBlock2D"), block_out_channels=(32, 32)),
            "must go to time_emb_proj alone to be cached, not to down_blocks.0.resnets.0",
        ),
        (
            lambda: SD3Transformer2DModel(
                num_layers=1, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=12,
                caption_projection_dim=16, pooled_projection_dim=10, pos_embed_max_size=8,
            ),
            "time embeddings are cached of UNet2DConditionModel and UNet2DModel only, not of SD3Transformer2DModel",
        ),
    ],
    ids=["sdxl", "class", "class-unconditional", "condition", "activation", "fourier", "group-norm", "transformer"],
)  # fmt: skip
def test_models_whose_embedding_is_of_more_than_the_timestep_are_refused(model, message):
    with torch.device("meta"):
        made = model()
    for refusing in (replaced_layers, cached_widths, lambda unet: put_cache(unet, [1])):
        with pytest.raises(ValueError, match=message):
            refusing(made)


def test_projections_beyond_half_precision_are_refused():
    unet = unconditional_unet()
    nn.init.constant_(unet.mid_block.resnets[0].time_emb_proj.bias, 1e5)
    with pytest.raises(ValueError, match="projections must be finite in half precision, not inf"):
        compute_projections(unet, [1])
