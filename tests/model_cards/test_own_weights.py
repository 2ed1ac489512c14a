"""A user's own folder: whose pipeline it holds, and which of its files are published."""

import json
from pathlib import Path

import pytest

from pocket_diffusers import checkpoint
from pocket_diffusers.model_cards.own_weights import OwnWeights, own_weights, read_own_weights

WEIGHTS = "diffusion_pytorch_model.safetensors"


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("form", ["SnapGenPipeline", ["pipeline_snapgen", "SnapGenPipeline"]])
def test_the_method_is_that_of_the_class_in_either_form(painter, form):
    edit_json(painter / "model_index.json", _class_name=form)
    assert read_own_weights(painter) == OwnWeights(painter, "snapgen", "text-to-image")


def test_the_packages_own_names_come_first(painter, reader, monkeypatch):
    monkeypatch.chdir(painter.parent)
    painter.rename("snapgen")
    assert own_weights("snapgen") is None and own_weights("snapgen-nano") is None and own_weights("snapgem") is None
    assert own_weights("./snapgen").slug == "snapgen" and own_weights("my-reader").task == "image-classification"
    with pytest.raises(FileNotFoundError, match="me/nothing is not there: name a method or a folder"):
        own_weights("me/nothing")


def test_a_folder_reached_as_the_current_one_has_its_name(reader, monkeypatch):
    monkeypatch.chdir(reader)
    assert own_weights(".").name == "my-reader"


def nothing(folder: Path) -> None:
    pass


def a_lora(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def a_bundle(folder: Path) -> None:
    (folder / "contract.json").write_text("{}")


def a_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"_class_name": "AsCANModel"}')


def a_transformer(folder: Path) -> None:
    (folder / "config.json").write_text('{"architectures": ["CLIPModel"]}')


def a_training(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "model_index.json").write_text("{}")


def a_stranger(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')


def nameless(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"_class_name": []}')


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (nothing, r"given has no model_index\.json, so it holds no pipeline"),
        (a_lora, "given is a LoRA and no whole pipeline"),
        (a_bundle, "given is an exported bundle"),
        (a_model, "given is a single AsCANModel and no pipeline"),
        (a_transformer, "given is a single CLIPModel and no pipeline"),
        (a_training, "given is the folder of a training, whose weights are in .*given/model"),
        (a_stranger, "given holds a StableDiffusionPipeline, which is no pipeline of pocket-diffusers"),
        (nameless, r"model_index\.json names no pipeline class"),
    ],
)
def test_what_is_no_pipeline_of_ours_is_named(tmp_path, make, said):
    (tmp_path / "given").mkdir()
    make(tmp_path / "given")
    with pytest.raises(ValueError, match=said) as error:
        read_own_weights(tmp_path / "given")
    assert "\n" not in str(error.value)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(FileNotFoundError, match="is a file, no folder"):
        read_own_weights(tmp_path / "weights.safetensors")


def test_only_parts_of_the_pipeline_are_published(painter):
    own = read_own_weights(painter)
    before = {path.relative_to(painter).as_posix() for path in own.files()}
    assert before == {
        "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
        "text_encoder/model.safetensors", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
        "unet/config.json", f"unet/{WEIGHTS}", "vae/config.json", f"vae/{WEIGHTS}",
    }  # fmt: skip
    for name in (
        "checkpoint-500/optimizer.bin", "checkpoint-500/unet/config.json", "optimizer.pt", "logs/events.out", ".env",
        "unet/.cache", "unet/log.txt", "unet/ema.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "samples/00.png", "unet/deeper/config.json",
    ):  # fmt: skip
        (painter / name).parent.mkdir(parents=True, exist_ok=True)
        (painter / name).touch()
    (painter / "LICENSE").touch()
    assert {path.relative_to(painter).as_posix() for path in own.files()} == before | {"LICENSE"}
    assert own.left_out(before | {"LICENSE"}) == [
        "checkpoint-500", "logs", "optimizer.pt", "pipeline_snapgen.py", "samples", "unet/deeper",
        "unet/diffusion_pytorch_model.fp16.safetensors", "unet/ema.safetensors", "unet/log.txt",
    ]  # fmt: skip


def test_shards_and_their_index_are_published(reader):
    weights = reader / "model" / WEIGHTS
    shard = weights.rename(reader / "model" / "diffusion_pytorch_model-00001-of-00001.safetensors")
    index = reader / "model" / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"a": shard.name}}))
    assert {shard, index} <= set(read_own_weights(reader).files())


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "optimizer.PT", "deep/state.pkl", "x.ckpt"])
def test_a_pickle_in_a_part_is_refused_by_name(reader, name):
    (reader / "model" / name).parent.mkdir(exist_ok=True)
    (reader / "model" / name).touch()
    with pytest.raises(ValueError, match=rf"model/{name} is a pickle.*only safetensors is published"):
        read_own_weights(reader).files()


def test_links_in_a_part_are_refused(reader, tmp_path):
    (reader / "model" / "notes.txt").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match=r"model/notes\.txt is a link to /etc/hostname"):
        read_own_weights(reader).files()
    (reader / "model" / "notes.txt").unlink()
    (reader / "model").rename(tmp_path / "elsewhere")
    (reader / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="my-reader/model is a link to"):
        read_own_weights(reader).files()


def test_missing_parts_are_named(reader):
    (reader / "model" / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{WEIGHTS} is missing"):
        read_own_weights(reader).files()
    (reader / "model").rename(reader / "old")
    with pytest.raises(FileNotFoundError, match=r"model is missing, though model_index\.json names it"):
        read_own_weights(reader).files()


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/home/me/.cache/huggingface/hub/models--me--snap-gen/snapshots/0a1b/unet", "me/snap-gen"),
        (f"{checkpoint('snapgen-nano')}/unet", "snapgen-nano"),
        ("/home/me/runs/base", None),
        ("runs/base", None),
        ("me/snapgen", None),  # a folder may be called so too
    ],
)
def test_base_is_named_where_it_is_certain(painter, path, base):
    edit_json(painter / "unet" / "config.json", _name_or_path=path)
    assert read_own_weights(painter).base() == base


def test_models_of_several_origins_have_no_base(painter):
    for part, name in (("unet", "one"), ("vae", "other")):
        edit_json(painter / part / "config.json", _name_or_path=f"/hub/models--me--{name}/snapshots/0/{part}")
    assert read_own_weights(painter).base() is None
