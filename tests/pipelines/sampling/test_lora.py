"""LoRA adapters made with peft act on the UNet and leave no trace."""

import copy
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

CALL = {"prompt": "a red cube", "num_inference_steps": 2, "output_type": "latent"}


def picture(pipeline):
    return pipeline(**CALL, generator=torch.Generator().manual_seed(0)).images


@pytest.fixture
def lora(one_encoder, tmp_path):
    """A file with a LoRA on attention and convolutions that is not the identity, and its config."""
    torch.manual_seed(1)
    targets = [
        name
        for name, module in one_encoder.unet.named_modules()
        if isinstance(module, torch.nn.Linear) and "attention" in name or name == "conv_in"
    ]
    config = LoraConfig(r=2, lora_alpha=6, target_modules=targets, init_lora_weights=False)
    adapted = get_peft_model(copy.deepcopy(one_encoder.unet), config)
    one_encoder.save_lora_weights(
        tmp_path, get_peft_model_state_dict(adapted), adapted.peft_config["default"].to_dict()
    )
    return tmp_path / "pytorch_lora_weights.safetensors", adapted


def test_lora_acts_as_peft_computes_it_and_leaves_no_trace(one_encoder, lora):
    path, adapted = lora
    before = picture(one_encoder)
    keys = set(one_encoder.unet.state_dict())
    one_encoder.load_lora_weights(path.parent, adapter_name="style")
    with_lora = picture(one_encoder)
    assert not torch.allclose(before, with_lora, atol=1e-3)

    reference = one_encoder.__class__(**{**one_encoder.components, "unet": adapted.merge_and_unload()})
    reference.set_progress_bar_config(disable=True)
    torch.testing.assert_close(with_lora, picture(reference), atol=1e-4, rtol=1e-4)

    one_encoder.set_adapters("style", 0.0)
    torch.testing.assert_close(picture(one_encoder), before, atol=1e-5, rtol=1e-5)
    one_encoder.unload_lora_weights()
    assert torch.equal(picture(one_encoder), before)
    assert set(one_encoder.unet.state_dict()) == keys


def test_fused_lora_gives_the_same_pictures(one_encoder, lora):
    one_encoder.load_lora_weights(lora[0])
    with_lora = picture(one_encoder)
    one_encoder.fuse_lora()
    torch.testing.assert_close(picture(one_encoder), with_lora, atol=1e-4, rtol=1e-4)
    one_encoder.unfuse_lora()
    torch.testing.assert_close(picture(one_encoder), with_lora, atol=1e-4, rtol=1e-4)


def test_file_and_state_dict_are_the_same(one_encoder, lora):
    state = load_file(lora[0])
    assert all(key.startswith("unet.") for key in state)
    one_encoder.load_lora_weights(dict(state), adapter_name="a")
    one_encoder.load_lora_weights(lora[0], adapter_name="b")
    assert set(one_encoder.get_list_adapters()["unet"]) == {"a", "b"}
    own = get_peft_model_state_dict(one_encoder.unet, adapter_name="b")
    assert all(torch.equal(own[key.removeprefix("unet.")], value) for key, value in state.items())


def test_saving_with_a_lora_attached_is_refused(one_encoder, lora, tmp_path):
    from pocket_diffusers.pipelines.repository import save_repository

    one_encoder.load_lora_weights(lora[0])
    with pytest.raises(ValueError, match="unet has a LoRA attached"):
        save_repository(one_encoder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_lora_files(one_encoder, lora, tmp_path):
    path, _ = lora
    before = picture(one_encoder)
    state = load_file(path)

    with pytest.raises(FileNotFoundError, match="no LoRA at .*nothing"):
        one_encoder.load_lora_weights(tmp_path / "nothing.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="cut.safetensors is no complete safetensors file"):
        one_encoder.load_lora_weights(cut)
    pickled = tmp_path / "lora.bin"
    torch.save(state, pickled)
    with pytest.raises(ValueError, match="no complete safetensors"):
        one_encoder.load_lora_weights(pickled)
    with pytest.raises(ValueError, match="no LoRA of a UNet"):
        one_encoder.load_lora_weights({"transformer.x.lora_A.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="no layer 'nowhere'"):
        one_encoder.load_lora_weights({"unet.nowhere.lora_A.weight": torch.zeros(2, 2)})
    key = next(name for name in state if "lora_A" in name)
    with pytest.raises(ValueError, match="another network.*99 wide"):
        one_encoder.load_lora_weights({**state, key: torch.zeros(2, 99)})
    with pytest.raises(ValueError, match="empty"):
        one_encoder.save_lora_weights(tmp_path, {})
    assert torch.equal(picture(one_encoder), before)


def test_lora_alpha_is_read_from_the_file(one_encoder, lora, tmp_path):
    """Without its metadata lora_alpha equals the rank, a third of the strength this LoRA was made with."""
    path, _ = lora
    one_encoder.load_lora_weights(path, adapter_name="whole")
    assert one_encoder.unet.peft_config["whole"].lora_alpha == 6
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(path), bare, metadata={"format": "pt", "note": json.dumps({})})
    one_encoder.load_lora_weights(bare, adapter_name="bare")
    assert one_encoder.unet.peft_config["bare"].lora_alpha == 2
