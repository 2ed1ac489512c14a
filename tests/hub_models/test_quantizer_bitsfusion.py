"""BitsFusion in diffusers: loading, packing, saving, pipelines, adapters, the published recipe, and refusals."""

import copy
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from damaged_files import damaged
from diffusers import (
    ConfigMixin,
    DDIMPipeline,
    DDIMScheduler,
    DiffusionPipeline,
    ModelMixin,
    PipelineQuantizationConfig,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.configuration_utils import register_to_config
from diffusers.quantizers import auto
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pocket_diffusers import checkpoint
from pocket_diffusers.hub_models.layers.low_bit import LowBitConv2d, LowBitLinear
from pocket_diffusers.hub_models.quantizer_bitsfusion import (
    BitsFusionConfig,
    BitsFusionQuantizer,
    average_bits,
    pack_model,
    prepare_training,
)

WEIGHTS = "diffusion_pytorch_model.safetensors"
TO_K = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
RECIPE = {TO_K: 7, "conv_in": 8, "mid_block.resnets.0.conv1": 1, "down_blocks.1.resnets.0.conv2": 2}


def tiny_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=12, attention_head_dim=8,
        norm_num_groups=8, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()  # fmt: skip


def bits_of(name: str) -> int:
    """Of a layer of the packed UNet."""
    return RECIPE.get(name, 8 if name == "conv_out" else 3)


def answer(unet: nn.Module, dtype: torch.dtype = torch.float32, timestep: float = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 12, generator=generator)
    with torch.no_grad():
        return unet(x.to(dtype), timestep, text.to(dtype)).sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A little UNet in full precision."""
    place = tmp_path_factory.mktemp("unet")
    tiny_unet().save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory) -> Path:
    """The same UNet, packed while it was read."""
    place = tmp_path_factory.mktemp("packed")
    config = BitsFusionConfig(RECIPE, default_bits=3, modules_to_not_convert=["time_embedding"])
    UNet2DConditionModel.from_pretrained(folder, quantization_config=config).save_pretrained(place)
    return place


def config_without_path(place: Path) -> dict:
    """diffusers notes where a model was loaded from."""
    config = json.loads((place / "config.json").read_text())
    return {key: value for key, value in config.items() if key != "_name_or_path"}


def test_packing_while_reading_is_rounding_the_loaded_model(folder, packed):
    plain, read = tiny_unet(), UNet2DConditionModel.from_pretrained(packed)
    layers = {name: layer for name, layer in plain.named_modules() if type(layer) in (nn.Linear, nn.Conv2d)}
    assert len(layers) > 40 and all(name in layers for name in RECIPE)
    for name, layer in layers.items():
        found = read.get_submodule(name)
        if name.startswith("time_embedding"):
            assert type(found) is nn.Linear
            continue
        kind = LowBitLinear if isinstance(layer, nn.Linear) else LowBitConv2d
        assert type(found) is kind and found.is_frozen and found.levels.bits == bits_of(name)
        rounded = kind.of(layer, bits_of(name)).freeze()
        assert torch.equal(found.rounded_weight(), rounded.rounded_weight())
        layer.weight.data = rounded.rounded_weight()
    assert torch.equal(answer(read), answer(plain))
    assert float((answer(read) - answer(tiny_unet())).norm() / answer(plain).norm()) > 0.01


def test_saving_again_gives_the_same_bytes(packed, tmp_path):
    UNet2DConditionModel.from_pretrained(packed).save_pretrained(tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (packed / WEIGHTS).read_bytes()
    assert config_without_path(tmp_path) == config_without_path(packed)
    assert config_without_path(packed)["quantization_config"] == {
        "quant_method": "bitsfusion", "bits": RECIPE, "default_bits": 3, "modules_to_not_convert": ["time_embedding"],
        "cached_timesteps": [],
    }  # fmt: skip


def test_files_hold_words_and_half_precision_scales(folder, packed):
    tensors = load_file(packed / WEIGHTS)
    assert f"{TO_K}.weight" not in tensors
    assert tensors[f"{TO_K}.words"].dtype == torch.int64 and len(tensors[f"{TO_K}.words"]) == -(-32 * 12 // 9)
    assert tensors[f"{TO_K}.scales"].dtype == torch.float16 and tensors["conv_in.bias"].dtype == torch.float32
    assert (packed / WEIGHTS).stat().st_size < 0.25 * (folder / WEIGHTS).stat().st_size


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_any_type_of_the_rest_leaves_packed_weights_as_they_are(packed, dtype, tmp_path):
    read = UNet2DConditionModel.from_pretrained(packed, torch_dtype=dtype)
    assert read.dtype == (dtype or torch.float32) == read.conv_in.weight.dtype
    assert torch.equal(
        read.conv_in.rounded_weight(), UNet2DConditionModel.from_pretrained(packed).conv_in.rounded_weight()
    )
    result = answer(read, read.dtype)
    assert result.isfinite().all() and result.dtype == read.dtype
    read.save_pretrained(tmp_path)
    first, again = load_file(packed / WEIGHTS), load_file(tmp_path / WEIGHTS)
    assert all(torch.equal(first[key], again[key]) for key in first if key.endswith((".words", ".scales")))


def test_shards_are_read_in_any_order(packed, tmp_path):
    UNet2DConditionModel.from_pretrained(packed).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    assert torch.equal(
        answer(UNet2DConditionModel.from_pretrained(tmp_path)), answer(UNet2DConditionModel.from_pretrained(packed))
    )


def test_training_then_packing_gives_the_file_of_packing_while_reading(folder, tmp_path):
    config = BitsFusionConfig(default_bits=2)
    model = prepare_training(UNet2DConditionModel.from_pretrained(folder), config)
    expected = answer(model)
    model(torch.randn(1, 4, 8, 8), 3, torch.randn(1, 5, 12)).sample.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert torch.equal(answer(pack_model(model)), expected)
    model.save_pretrained(tmp_path / "trained")
    UNet2DConditionModel.from_pretrained(folder, quantization_config=config).save_pretrained(tmp_path / "read")
    assert (tmp_path / "trained" / WEIGHTS).read_bytes() == (tmp_path / "read" / WEIGHTS).read_bytes()
    assert config_without_path(tmp_path / "trained") == config_without_path(tmp_path / "read")


def test_dequantize_gives_a_plain_model_that_computes_the_same(packed, tmp_path):
    model = UNet2DConditionModel.from_pretrained(packed)
    expected = answer(model)
    assert model.dequantize() is model and not model.is_quantized
    assert torch.equal(answer(model), expected) and type(model.conv_in) is nn.Conv2d
    model.save_pretrained(tmp_path)
    assert "quantization_config" not in config_without_path(tmp_path)
    assert torch.equal(answer(UNet2DConditionModel.from_pretrained(tmp_path)), expected)


def tiny_transformer() -> SD3Transformer2DModel:
    torch.manual_seed(0)
    return SD3Transformer2DModel(
        sample_size=8, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=12,
        caption_projection_dim=16, pooled_projection_dim=10, out_channels=4, pos_embed_max_size=8,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "ends"), [(tiny_unet, {"conv_in", "conv_out"}), (tiny_transformer, {"pos_embed.proj", "proj_out"})]
)
def test_first_and_last_layers_take_8_bits_where_no_recipe_names_them(model, ends):
    model = model()
    bits = BitsFusionConfig(default_bits=2).layer_bits(model)
    assert {name for name, own in bits.items() if own == 8} == ends and set(bits.values()) == {2, 8}
    named = {name: 1 for name in ends}
    assert BitsFusionConfig(named, 2).layer_bits(model).items() >= named.items()
    kept = BitsFusionConfig(default_bits=2, modules_to_not_convert=sorted(ends)).layer_bits(model)
    assert set(kept) == set(bits) - ends and set(kept.values()) == {2}, "what is not to be converted is not"
    inner = next(name for name in bits if name not in ends)
    assert BitsFusionConfig({inner: 3}, default_bits=None).layer_bits(model) == {inner: 3}


def test_layers_inside_that_share_the_name_of_a_last_one_take_default_bits():
    inner = [name for name, _ in tiny_unet().named_modules() if name.endswith(".proj_out")]
    bits = BitsFusionConfig(default_bits=2).layer_bits(tiny_unet())
    assert inner and all(bits[name] == 2 for name in inner)


def test_transformers_are_packed_by_the_classes_of_their_layers(tmp_path):
    tiny_transformer().save_pretrained(tmp_path / "plain")
    config = BitsFusionConfig(default_bits=4)
    model = SD3Transformer2DModel.from_pretrained(tmp_path / "plain", quantization_config=config)
    model.save_pretrained(tmp_path / "packed")
    x, text, pooled = torch.randn(1, 4, 8, 8), torch.randn(1, 6, 12), torch.randn(1, 10)
    answers = [
        own(x, text, pooled, torch.tensor([5.0])).sample.detach()
        for own in (model, SD3Transformer2DModel.from_pretrained(tmp_path / "packed"))
    ]
    assert torch.equal(*answers) and answers[0].isfinite().all()
    assert isinstance(model.transformer_blocks[0].attn.to_q, LowBitLinear)
    assert isinstance(model.pos_embed.proj, LowBitConv2d) and model.pos_embed.proj.levels.bits == 8


def test_pipelines_are_packed_and_read(tmp_path):
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    DDIMPipeline(unet, DDIMScheduler()).save_pretrained(tmp_path / "plain")
    config = PipelineQuantizationConfig(quant_mapping={"unet": BitsFusionConfig(default_bits=4)})
    pipeline = DDIMPipeline.from_pretrained(tmp_path / "plain", quantization_config=config)
    assert isinstance(pipeline.unet.conv_in, LowBitConv2d) and '"bitsfusion"' in repr(config)
    pipeline.save_pretrained(tmp_path / "packed")
    pictures = []
    for own in (pipeline, DDIMPipeline.from_pretrained(tmp_path / "packed")):
        own.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        pictures.append(own(num_inference_steps=2, generator=generator, output_type="np").images)
    assert (pictures[0] == pictures[1]).all()


@pytest.mark.parametrize("components", [None, "unet"])
def test_the_backend_of_a_pipeline_is_named(tmp_path, components):
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, add_attention=False,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    DDIMPipeline(unet, DDIMScheduler()).save_pretrained(tmp_path)
    config = PipelineQuantizationConfig("bitsfusion", {"default_bits": 2, "bits": {"conv_in": 7}}, components)
    read = DDIMPipeline.from_pretrained(tmp_path, quantization_config=config).unet
    oracle = UNet2DModel.from_pretrained(tmp_path / "unet", quantization_config=BitsFusionConfig({"conv_in": 7}, 2))
    assert read.conv_in.levels.bits == 7 and read.down_blocks[0].resnets[0].conv1.levels.bits == 2
    assert all(torch.equal(value, oracle.state_dict()[name]) for name, value in read.state_dict().items())


@pytest.mark.parametrize("components", [None, ["unet", "text_encoder"]])
def test_the_backend_of_a_pipeline_refuses_text_encoders(components):
    config = PipelineQuantizationConfig("bitsfusion", {"default_bits": 4}, components)
    message = r"components_to_quantize must name models of diffusers alone, such as 'unet' or 'transformer': BitsFusion"
    with pytest.raises(ValueError, match=message):
        DiffusionPipeline.from_pretrained(
            checkpoint("snapgen-nano"), quantization_config=config, trust_remote_code=True
        )


def test_adapters_on_packed_weights_are_saved(packed, tmp_path):
    peft = pytest.importorskip("peft", reason="peft comes with the extra 'train'")
    unet = UNet2DConditionModel.from_pretrained(packed)
    unet.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "conv1"], init_lora_weights=False))
    adapted, twin = answer(unet), copy.deepcopy(unet)
    for index, own in enumerate((unet, twin, pickle.loads(pickle.dumps(unet)))):
        own.save_lora_adapter(tmp_path / str(index))
        other = UNet2DConditionModel.from_pretrained(packed)
        other.load_lora_adapter(tmp_path / str(index), prefix=None, use_safetensors=True)
        assert torch.equal(answer(other), adapted)
    with pytest.raises(ValueError, match="Casting a quantized model to a new `dtype` is unsupported"):
        unet.to(dtype=torch.bfloat16)
    twin.conv_in.bias.data += 1  # a copy moves and saves itself, not what it was copied from
    assert twin.to("cpu") is twin and torch.equal(answer(unet), adapted)


def test_types_of_a_dequantised_model_are_free(packed):
    assert UNet2DConditionModel.from_pretrained(packed).dequantize().to(dtype=torch.bfloat16).dtype == torch.bfloat16


def test_lora_adapters_load_on_top_and_are_not_fused(packed):
    peft = pytest.importorskip("peft", reason="peft comes with the extra 'train'")
    unet, other = UNet2DConditionModel.from_pretrained(packed), UNet2DConditionModel.from_pretrained(packed)
    plain = answer(unet)
    unet.add_adapter(
        peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v", "conv1"], init_lora_weights=False)
    )
    adapted = answer(unet)
    weights = {f"unet.{name}": value for name, value in peft.get_peft_model_state_dict(unet).items()}
    other.load_lora_adapter(weights, prefix="unet")
    assert torch.equal(answer(other), adapted) and not torch.equal(adapted, plain)
    other.disable_adapters()
    assert torch.equal(answer(other), plain)
    with pytest.raises(ValueError, match="packed weights cannot be written to: keep adapters beside them"):
        unet.fuse_lora()


def test_without_our_package_diffusers_names_the_method(packed, monkeypatch):
    for registry in (auto.AUTO_QUANTIZER_MAPPING, auto.AUTO_QUANTIZATION_CONFIG_MAPPING):
        monkeypatch.delitem(registry, "bitsfusion")
    with pytest.raises(ValueError, match="Unknown quantization type, got bitsfusion"):
        UNet2DConditionModel.from_pretrained(packed)


# The cache of time embeddings

CACHED = [7, 981, 250.5]


@pytest.fixture(scope="module")
def with_cache(folder, tmp_path_factory) -> Path:
    """The UNet, packed with a cache while it was read."""
    place = tmp_path_factory.mktemp("with-cache")
    config = BitsFusionConfig(RECIPE, default_bits=3, cached_timesteps=CACHED)
    UNet2DConditionModel.from_pretrained(folder, quantization_config=config).save_pretrained(place)
    return place


def test_a_cache_stands_for_layers_of_full_precision(folder, with_cache):
    oracle = UNet2DConditionModel.from_pretrained(
        folder, quantization_config=BitsFusionConfig(RECIPE, 3, ["time_embedding", "time_emb_proj"])
    )
    read = UNet2DConditionModel.from_pretrained(with_cache)
    for timestep in CACHED:
        expected, found = answer(oracle, timestep=timestep), answer(read, timestep=timestep)
        assert float((found - expected).norm() / expected.norm()) < 2**-10
    assert float((answer(oracle, timestep=7) - answer(oracle, timestep=981)).norm() / expected.norm()) > 2**-6
    stored = load_file(with_cache / WEIGHTS)
    assert stored["time_proj.projections"].dtype == torch.float16
    assert not any("time_emb" in key for key in stored)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_with_a_cache_saves_the_same_table_in_any_type(with_cache, tmp_path, dtype):
    read = UNet2DConditionModel.from_pretrained(with_cache, torch_dtype=dtype)
    assert answer(read, dtype).dtype == dtype and answer(read, dtype).isfinite().all()
    read.save_pretrained(tmp_path)
    stored, again = load_file(with_cache / WEIGHTS), load_file(tmp_path / WEIGHTS)
    assert torch.equal(stored["time_proj.projections"], again["time_proj.projections"])
    if dtype == torch.float32:
        assert (tmp_path / WEIGHTS).read_bytes() == (with_cache / WEIGHTS).read_bytes()
        assert config_without_path(tmp_path) == config_without_path(with_cache)
        assert config_without_path(tmp_path)["quantization_config"]["cached_timesteps"] == CACHED


def test_layers_of_time_stay_until_training_is_over(folder, with_cache, tmp_path):
    config = BitsFusionConfig(RECIPE, default_bits=3, cached_timesteps=CACHED)
    model = prepare_training(UNet2DConditionModel.from_pretrained(folder), config)
    assert type(model.time_embedding.linear_1) is nn.Linear and answer(model, timestep=3).isfinite().all()
    pack_model(model).save_pretrained(tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (with_cache / WEIGHTS).read_bytes()


def test_what_a_cache_has_replaced_is_refused_by_name(folder, with_cache):
    read = UNet2DConditionModel.from_pretrained(with_cache)
    with pytest.raises(ValueError, match=r"timestep must be one of the 3 that are cached \(7, 981, 250.5\), not 8: "):
        answer(read, timestep=8)
    with pytest.raises(ValueError, match="the model must have its layers of time to be dequantised, not a cache"):
        read.dequantize()
    config = BitsFusionConfig({"time_embedding.linear_1": 8}, cached_timesteps=CACHED)
    with pytest.raises(ValueError, match=r"bits must name .* layers of .*, not 'time_embedding.linear_1'"):
        UNet2DConditionModel.from_pretrained(folder, quantization_config=config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:-1], r"projections must be torch.float16 of shape \(3, (\d+)\), not .* shape \(2, \1\)"),
        (lambda t: t.float(), "projections must be torch.float16 .*, not torch.float32"),
        (lambda t: t * float("inf"), "time_proj.projections: projections must be finite in half precision, not"),
        (lambda t: None, "the weights must hold time_proj.projections, which are missing"),
    ],
)
def test_hostile_caches_are_refused(with_cache, tmp_path, change, message):
    place = shutil.copytree(with_cache, tmp_path / "hostile")
    tensors = load_file(place / WEIGHTS)
    changed = change(tensors.pop("time_proj.projections"))
    save_file(tensors if changed is None else {**tensors, "time_proj.projections": changed}, place / WEIGHTS)
    with pytest.raises(ValueError, match=message):
        UNet2DConditionModel.from_pretrained(place)


# The published recipe


def test_the_published_recipe_takes_the_published_bits():
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)  # of Stable Diffusion 1.5
    assert sum(parameter.numel() for parameter in unet.parameters()) == 859_520_964
    bits = BitsFusionConfig.published().layer_bits(unet)
    weights = {name: m.weight.numel() for name, m in unet.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    cached = [name for name in weights if "time_emb" in name]
    assert set(weights) == set(bits) | set(cached) and len(bits) == 258
    cached_values = 50 * sum(unet.get_submodule(name).out_features for name in cached if "time_emb_proj" in name)
    assert cached_values == 1_008_000 and sum(weights.values()) == 859_077_120
    assert round(average_bits(weights, bits, cached, cached_values), 4) == 1.9885
    by_bits = {b: sum(weights[name] for name in bits if bits[name] == b) for b in range(1, 9)}
    assert by_bits == {
        1: 502_743_040, 2: 214_814_720, 3: 80_384_000, 4: 30_003_200, 5: 1_454_080, 6: 1_105_920, 7: 696_320, 8: 23_040,
    }  # fmt: skip


def test_the_published_recipe_with_its_cache_is_a_file_of_219_megabytes():
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    BitsFusionQuantizer(
        BitsFusionConfig.published(range(1, 1001, 20)), pre_quantized=True
    )._process_model_before_weight_loading(unet)
    state = unet.state_dict()
    assert state["time_proj.projections"].nbytes == 2 * 1_008_000
    header = sum(len(f'"{key}":{{"dtype":"I64","shape":[],"data_offsets":[,]}},') + 40 for key in state)
    size = sum(value.nbytes for value in state.values()) + header
    assert 218.5e6 < size <= 219.5e6 and 2 * 859_520_964 / size > 7.8


def test_average_bits_by_hand():
    weights = {"a": 10, "b": 20, "time": 70}
    assert average_bits(weights, {"a": 8, "b": 8}, ["time"], 5) == (10 * 8 + 20 * 8 + 16 * 5) / 100
    assert average_bits(weights, {"a": 8}) == (10 * 8 + 90 * 32) / 100


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"default_bits": 0}, "bits must be a whole number from 1 to 8, not 0"),
        ({"bits": {"conv_in": 9}}, "conv_in: bits must be a whole number from 1 to 8, not 9"),
        ({"default_bits": None}, "default_bits must be given where bits names no layer, not None"),
        ({"quant_method": "sdnq"}, "sdnq"),
        ({"bits": [["conv_in", 2]]}, r"bits must be bits by the names of layers, not \[\['conv_in', 2\]\]"),
        ({"modules_to_not_convert": "conv_in"}, "modules_to_not_convert must be a list of names, not 'conv_in'"),
        ({"modules_to_not_convert": 3}, "modules_to_not_convert must be a list of names, not 3"),
        ({"cached_timesteps": 50}, "cached_timesteps must be a list of numbers, not 50"),
        ({"cached_timesteps": [1, -1]}, "cached_timesteps must be numbers from 0 on, not -1"),
        ({"cached_timesteps": [float("nan")]}, "cached_timesteps must be numbers from 0 on, not nan"),
        ({"cached_timesteps": ["1"]}, "cached_timesteps must be numbers from 0 on, not '1'"),
        ({"cached_timesteps": [7, 7.0]}, "cached_timesteps must be distinct"),
    ],
)
def test_configs_that_mean_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BitsFusionConfig(**arguments)


def test_a_stored_config_with_an_unknown_name_is_refused(packed, tmp_path):
    place = shutil.copytree(packed, tmp_path / "hostile")
    text = (place / "config.json").read_text()
    (place / "config.json").write_text(text.replace('"default_bits"', '"default_bitz"'))
    with pytest.raises(ValueError, match="quantization_config must not hold 'default_bitz', which is no argument of"):
        UNet2DConditionModel.from_pretrained(place)


def test_a_recipe_of_another_model_names_the_layer_and_the_nearest(folder):
    config = BitsFusionConfig({"mid_block.resnets.0.conv3": 2})
    message = (
        r"bits must name Linear or Conv2d layers of UNet2DConditionModel, not 'mid_block.resnets.0.conv3' "
        r"\(nearest: 'mid_block.resnets.0.conv[12]'\)"
    )
    with pytest.raises(ValueError, match=message):
        UNet2DConditionModel.from_pretrained(folder, quantization_config=config)
    with pytest.raises(ValueError, match="ReLU has no Linear or Conv2d layer to quantise"):
        BitsFusionConfig().layer_bits(nn.ReLU())


def test_weights_that_are_no_numbers_are_refused_by_name(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "damaged")
    tensors = load_file(place / WEIGHTS)
    tensors[f"{TO_K}.weight"][0, 0] = float("nan")
    save_file(tensors, place / WEIGHTS)
    with pytest.raises(ValueError, match=rf"{TO_K}.weight: weights must be finite .*, not nan"):
        UNet2DConditionModel.from_pretrained(place, quantization_config=BitsFusionConfig())


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        (
            "conv_in.words",
            lambda t: t[:-1],
            r"conv_in.words: words must be torch.int64 of shape \(72,\) for 576",
        ),
        ("conv_in.words", lambda t: t.int(), "conv_in.words: words must be torch.int64 .*, not torch.int32"),
        (f"{TO_K}.words", lambda t: t | -1, f"{TO_K}.words: words of 9 digits must be below 129"),
        ("conv_in.scales", lambda t: t[:-1], r"conv_in.scales: scales must be torch.float16 of shape \(16,\)"),
        ("conv_in.scales", lambda t: t.float(), "conv_in.scales: scales must be torch.float16 .*, not torch.float32"),
        ("conv_in.scales", lambda t: t * float("nan"), "conv_in.scales: scales must be positive and finite, not nan"),
        ("conv_in.words", lambda t: None, "the weights must hold those of conv_in, which are missing"),
        ("conv_in.scales", lambda t: None, "the weights must hold those of conv_in, which are missing"),
    ],
)
def test_hostile_packed_weights_are_refused(packed, tmp_path, key, change, message):
    place = shutil.copytree(packed, tmp_path / "hostile")
    tensors = load_file(place / WEIGHTS)
    changed = change(tensors.pop(key))
    save_file(tensors if changed is None else {**tensors, key: changed.contiguous()}, place / WEIGHTS)
    with pytest.raises(ValueError, match=message):
        UNet2DConditionModel.from_pretrained(place)


class OneConvolution(ModelMixin, ConfigMixin):
    """The least that diffusers loads."""

    @register_to_config
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3)


def test_damaged_files_are_refused_or_read_as_levels(tmp_path):
    torch.manual_seed(0)
    config = BitsFusionConfig(default_bits=2)
    pack_model(prepare_training(OneConvolution(), config)).save_pretrained(tmp_path)
    whole, draw, refused = (tmp_path / WEIGHTS).read_bytes(), np.random.default_rng(0), 0
    for _ in range(1000):
        (tmp_path / WEIGHTS).unlink()  # tensors of the last one may still be mapped into memory
        (tmp_path / WEIGHTS).write_bytes(damaged(whole, draw))
        try:
            read = OneConvolution.from_pretrained(tmp_path).convolution
        except (ValueError, OSError, SafetensorError) as error:
            assert str(error)
            refused += 1
            continue
        levels = read.rounded_weight() / read.scales.float().view(-1, 1, 1, 1)
        assert levels.abs().max() <= 2 and torch.equal(levels, levels.round())
    assert 400 < refused < 1000


def test_offloading_to_the_disk_is_refused(folder):
    with pytest.raises(ValueError, match="device_map must keep a BitsFusion model in memory"):
        UNet2DConditionModel.from_pretrained(folder, quantization_config=BitsFusionConfig(), device_map={"": "disk"})


def test_what_the_model_s_class_wants_in_float32_stays_unless_named():
    model = nn.Sequential(nn.ModuleDict({"norm_out": nn.Linear(4, 4), "inner": nn.Linear(4, 4)}), nn.Linear(4, 4))
    assert BitsFusionConfig().layer_bits(model) == {"0.norm_out": 4, "0.inner": 4, "1": 4}
    model._keep_in_fp32_modules = ["norm_out", "inn"]
    assert BitsFusionConfig().layer_bits(model) == {"0.inner": 4, "1": 4}
    assert BitsFusionConfig({"0.norm_out": 8}, modules_to_not_convert=["0"]).layer_bits(model) == {
        "0.norm_out": 8,
        "1": 4,
    }


def test_a_packed_model_is_not_trained_as_if_it_were_plain(packed):
    with pytest.raises(ValueError, match=r"the model must have plain layers, which dequantize\(\) gives"):
        prepare_training(UNet2DConditionModel.from_pretrained(packed), BitsFusionConfig())


def test_packing_needs_layers_in_training():
    with pytest.raises(ValueError, match="the model must have low-bit layers, which prepare_training makes"):
        pack_model(tiny_unet())
