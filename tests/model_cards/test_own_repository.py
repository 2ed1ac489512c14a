"""What is copied of a user's own folder: it loads, and says nothing of the machine that it comes from."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pocket_diffusers.model_cards.own_repository import copy_own
from pocket_diffusers.model_cards.own_weights import read_own_weights
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline
from pocket_diffusers.pipelines.repository import check_repository

HOME = "/home/somebody/secret"


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def copied(folder: Path) -> Path:
    target = folder.parent / "copy"
    copy_own(read_own_weights(folder), target)
    return target


def test_the_copy_is_checked_and_loads(painter):
    copy = copied(painter)
    check_repository(copy)
    loaded = SnapGenPipeline.from_pretrained(copy)
    kept = load_file(painter / "unet" / "diffusion_pytorch_model.safetensors")
    assert all((value == loaded.unet.state_dict()[key]).all() for key, value in kept.items())


def test_code_beside_weights_is_ours_whatever_lies_there(painter):
    edit_json(painter / "model_index.json", _class_name="SnapGenPipeline")
    (painter / "pipeline_snapgen.py").write_text("import os\n")
    copy = copied(painter)
    assert json.loads((copy / "model_index.json").read_text())["_class_name"] == ["pipeline_snapgen", "SnapGenPipeline"]
    assert (
        "from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline"
        in (copy / "pipeline_snapgen.py").read_text()
    )


def test_where_libraries_found_files_is_dropped(painter):
    edit_json(painter / "model_index.json", _name_or_path=HOME)
    edit_json(painter / "unet" / "config.json", _name_or_path=f"{HOME}/unet")
    edit_json(painter / "text_encoder" / "config.json", text_config={"_name_or_path": HOME, "x": 1})
    edit_json(painter / "scheduler" / "scheduler_config.json", _name_or_path=HOME)
    edit_json(painter / "tokenizer" / "tokenizer_config.json", name_or_path=HOME, tokenizer_file=f"{HOME}/t.json")
    copy = copied(painter)
    for path in copy.rglob("*"):
        assert not path.is_file() or b"somebody" not in path.read_bytes(), path
    assert json.loads((copy / "text_encoder" / "config.json").read_text())["text_config"] == {"x": 1}


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
        "tokenizer/tokenizer_config.json", "tokenizer/tokenizer.json", "tokenizer/special_tokens_map.json",
    ],
)  # fmt: skip
def test_other_places_of_a_machine_are_refused_by_name(painter, name):
    path = painter / name
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.is_file() else {}), "note": [{"at": HOME}]}))
    with pytest.raises(ValueError, match=rf"{name} names '{HOME}', a place on one machine"):
        copied(painter)


def test_words_of_a_tokenizer_are_no_places(painter):
    path = painter / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] |= {"/usr/bin": 90, "_name_or_path": 91}
    path.write_text(json.dumps(content))
    (painter / "tokenizer" / "added_tokens.json").write_text('{"/usr/bin": 90}')
    assert (copied(painter) / "tokenizer" / "tokenizer.json").read_bytes() == path.read_bytes()


def test_metadata_of_weights_are_looked_at_too(painter):
    path = painter / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", "train_data_dir": HOME})
    with pytest.raises(ValueError, match=rf"{path.name} names '{HOME}'"):
        copied(painter)


@pytest.mark.parametrize("name", ["model_index.json", "LICENSE", "embedded.json"])
def test_links_beside_the_parts_are_refused(painter, tmp_path, name):
    (painter / name).unlink(missing_ok=True)
    (painter.parent / "aside.json").write_text('{"_class_name": "SnapGenPipeline"}')
    (painter / name).symlink_to(painter.parent / "aside.json")
    with pytest.raises(ValueError, match=f"{name} is a link to"):
        copied(painter)
