"""Weights read tensor by tensor and written in shards: names, sizes, variants, refusals."""

import json

import pytest
import torch
from diffusers import ModelMixin
from safetensors.torch import load_file, save_file

from pocket_diffusers.pipelines.sharded_weights import ShardWriter, find_weights, read_tensors, weight_shapes

TENSORS = {name: torch.full((4, 5), float(number)) for number, name in enumerate("abc")}  # of 80 bytes each


def written(folder, shard_bytes, variant=None):
    writer = ShardWriter(folder, variant, shard_bytes)
    for name, tensor in TENSORS.items():
        writer.add(name, tensor)
    return writer.finish()


def test_one_file_where_all_fits(tmp_path):
    size = written(tmp_path, 240)
    assert [path.name for path in tmp_path.iterdir()] == ["diffusion_pytorch_model.safetensors"]
    assert size == (tmp_path / "diffusion_pytorch_model.safetensors").stat().st_size
    assert all(torch.equal(TENSORS[key], value) for key, value in load_file(next(tmp_path.iterdir())).items())


@pytest.mark.parametrize(
    ("shard_bytes", "shards"), [(239, [["a", "b"], ["c"]]), (1, [["a"], ["b"], ["c"]])], ids=["two", "smaller-than-any"]
)
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_and_their_index(tmp_path, shard_bytes, shards, variant):
    size = written(tmp_path, shard_bytes, variant)
    stem = "diffusion_pytorch_model" + (f".{variant}" if variant else "")
    files = [tmp_path / f"{stem}-0000{number + 1}-of-0000{len(shards)}.safetensors" for number in range(len(shards))]
    index = tmp_path / f"diffusion_pytorch_model.safetensors.index{f'.{variant}' if variant else ''}.json"
    assert sorted(tmp_path.iterdir()) == sorted([*files, index])
    assert [list(load_file(file)) for file in files] == shards
    content = json.loads(index.read_text())
    assert content["metadata"] == {"total_size": 240} and size == sum(file.stat().st_size for file in files)
    assert content["weight_map"] == {k: file.name for file, keys in zip(files, shards, strict=True) for k in keys}
    assert find_weights(tmp_path, ModelMixin) == (files, variant)
    assert weight_shapes(files) == dict.fromkeys("abc", (4, 5))
    assert all(torch.equal(TENSORS[key], value) for key, value in read_tensors(files))


def test_plain_files_come_before_those_of_a_variant(tmp_path):
    for name in ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors"):
        save_file(TENSORS, tmp_path / name)
    assert find_weights(tmp_path, ModelMixin) == ([tmp_path / "diffusion_pytorch_model.safetensors"], None)


def test_pickles_are_refused_by_name(tmp_path):
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model\.bin is a pickle, .* only safetensors"):
        find_weights(tmp_path, ModelMixin)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"diffusion_pytorch_model\.safetensors is missing"):
        find_weights(tmp_path, ModelMixin)
    written(tmp_path, 1)
    (tmp_path / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="00002-of-00003.safetensors is missing"):
        find_weights(tmp_path, ModelMixin)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")], ids=["nan", "-inf"])
def test_tensors_that_are_no_numbers_are_named(tmp_path, value):
    save_file({"good": torch.ones(2), "odd": torch.tensor([1.0, value])}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=f"w.safetensors: tensor odd must be finite, not {value}"):
        list(read_tensors([tmp_path / "w.safetensors"]))


def test_files_whose_tensors_overlap_are_refused(tmp_path):
    """Each has the bytes that its shape needs, and the file is as long as the header says."""
    entries = {"a": [0, 8], "b": [4, 12]}
    header = {key: {"dtype": "F32", "shape": [2], "data_offsets": ends} for key, ends in entries.items()}
    text = json.dumps(header).encode()
    (tmp_path / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(12))
    assert weight_shapes([tmp_path / "w.safetensors"]) == {"a": (2,), "b": (2,)}
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged: "):
        list(read_tensors([tmp_path / "w.safetensors"]))
