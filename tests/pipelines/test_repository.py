"""Repositories are written whole, checked before they are loaded, and load in a process that knows nothing of us."""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline
from pocket_diffusers.pipelines.repository import (
    check_model,
    check_repository,
    is_local_path,
    read_shapes,
    save_repository,
    text_tower,
)

UNET = "unet/diffusion_pytorch_model.safetensors"


def picture(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    return pipeline("a red cube", num_inference_steps=2, generator=generator, output_type="pt").images


@pytest.fixture(scope="module")
def written(components, tmp_path_factory):
    """A pipeline and the repository written of it."""
    pipeline = SnapGenPipeline(**components("l3"))
    return pipeline, save_repository(pipeline, tmp_path_factory.mktemp("hub") / "snapgen-tiny")


@pytest.fixture
def repository(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(written[1], tmp_path / "snapgen-tiny")


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_repository_is_complete_and_half_precision(written):
    pipeline, folder = written
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline_snapgen", "SnapGenPipeline"]
    assert index["unet"] == ["pocket_diffusers.hub_models.unet_snapgen", "SnapGenUNet2DConditionModel"]
    assert index["text_encoder_2"] == [None, None] and (folder / "README.md").is_file()
    stored = load_file(folder / UNET)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert all(torch.equal(value.half(), stored[key]) for key, value in pipeline.unet.state_dict().items())
    assert pipeline.unet.dtype == torch.float32
    for path in folder.rglob("*.json"):
        assert str(folder.parent) not in path.read_text(), path
    assert [path.name for path in folder.parent.iterdir()] == ["snapgen-tiny"]


def test_loads_as_float32_or_what_is_asked_for(written):
    pipeline, folder = written
    loaded = SnapGenPipeline.from_pretrained(folder)
    for name in ("unet", "vae", "text_encoder", "text_encoder_3"):
        assert getattr(loaded, name).dtype == torch.float32, name
        original, stored = getattr(pipeline, name).state_dict(), getattr(loaded, name).state_dict()
        assert all(torch.equal(value, original[key].half().float()) for key, value in stored.items())
    assert (picture(loaded) - picture(pipeline)).abs().max() < 0.02
    assert SnapGenPipeline.from_pretrained(str(folder), dtype=torch.float16).unet.dtype == torch.float16


def test_components_can_be_left_out_or_replaced(written):
    pipeline, folder = written
    loaded = SnapGenPipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None, unet=pipeline.unet)
    assert loaded.text_encoder_3 is None and loaded.unet is pipeline.unet


FRESH = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pocket_diffusers":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import torch
from diffusers import DiffusionPipeline

try:
    DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
except ImportError as error:
    print("ABSENT", error)
sys.meta_path.pop(0)
for name in [name for name in sys.modules if name.startswith("diffusers_modules")]:
    del sys.modules[name]
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
print("CLASS", type(pipeline).__module__, type(pipeline).__name__)
print("DTYPES", pipeline.unet.dtype, pipeline.text_encoder.dtype)
pipeline.set_progress_bar_config(disable=True)
generator = torch.Generator().manual_seed(0)
images = pipeline("a red cube", num_inference_steps=2, generator=generator, output_type="pt").images
torch.save(images, sys.argv[2])
"""


def test_diffusion_pipeline_loads_it_in_a_fresh_process(written, tmp_path):
    _, folder = written
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FRESH), str(folder), str(tmp_path / "images.pt")],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ABSENT This repository needs the package pocket-diffusers" in done.stdout
    assert "install the wheel pocket_diffusers-*.whl" in done.stdout and "pip install" not in done.stdout
    assert "CLASS pocket_diffusers.pipelines.pipeline_snapgen SnapGenPipeline" in done.stdout
    assert "DTYPES torch.float32 torch.float32" in done.stdout
    here = picture(SnapGenPipeline.from_pretrained(folder))
    torch.testing.assert_close(torch.load(tmp_path / "images.pt"), here, atol=1e-4, rtol=0)


def test_own_class_loads_from_the_hub_without_its_code(written, tmp_path):
    """The layout of the Hub's cache, read offline."""
    cache = tmp_path / "models--someone--snapgen-tiny"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text("0" * 40)
    shutil.copytree(written[1], cache / "snapshots" / ("0" * 40))
    (cache / "snapshots" / ("0" * 40) / "pipeline_snapgen.py").write_text("raise SystemExit('code ran')")
    loaded = SnapGenPipeline.from_pretrained("someone/snapgen-tiny", cache_dir=tmp_path, local_files_only=True)
    assert loaded.unet.dtype == torch.float32


def test_own_class_runs_no_code_of_the_repository(repository):
    (repository / "pipeline_snapgen.py").write_text("raise SystemExit('code of the repository ran')")
    assert SnapGenPipeline.from_pretrained(repository).unet is not None


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model_index.json", "model_index.json is missing"),
        (UNET, "unet/diffusion_pytorch_model.safetensors is missing"),
        ("vae/config.json", "vae/config.json is missing"),
        ("text_encoder/model.safetensors", "text_encoder/model.safetensors is missing"),
        ("tokenizer/tokenizer.json", "tokenizer/tokenizer.json is missing"),
        ("scheduler/scheduler_config.json", "scheduler_config.json is missing"),
    ],
)
def test_missing_files(repository, missing, message):
    (repository / missing).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        SnapGenPipeline.from_pretrained(repository)


def test_missing_folders(repository):
    shutil.rmtree(repository / "vae")
    with pytest.raises(FileNotFoundError, match="vae is missing, though model_index.json names it"):
        SnapGenPipeline.from_pretrained(repository)
    with pytest.raises(FileNotFoundError, match="no checkpoint folder at .*nowhere"):
        SnapGenPipeline.from_pretrained(repository / "nowhere")
    with pytest.raises(FileNotFoundError, match="no checkpoint folder at snapgen-nano"):
        SnapGenPipeline.from_pretrained("snapgen-nano")


def damage(path, how):
    raw = path.read_bytes()
    length = 8 + int.from_bytes(raw[:8], "little")
    moved = raw[:length].replace(b'"data_offsets":[0,', b'"data_offsets":[2,', 1)
    path.write_bytes(
        {
            "cut": raw[:-100],
            "longer": raw + b"0000",
            "empty": b"",
            "header": raw[:8] + b"x" + raw[9:],
            "huge header": (2**40).to_bytes(8, "little") + raw[8:],
            "offsets": moved + raw[length:],
            "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        }[how]
    )


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", "is truncated or damaged: it has .* bytes, but its header declares"),
        ("longer", "is truncated or damaged"),
        ("empty", "is truncated or no safetensors file: it has 0 bytes"),
        ("header", "has a damaged header"),
        ("huge header", "is truncated or no safetensors file"),
        ("offsets", "its shape needs"),
        ("pointer", "is a Git LFS pointer"),
    ],
)
@pytest.mark.parametrize("file", [UNET, "text_encoder/model.safetensors"])
def test_damaged_weights(repository, file, how, message):
    damage(repository / file, how)
    with pytest.raises(ValueError, match=message) as caught:
        check_repository(repository)
    assert file in str(caught.value)


def test_truncated_json(repository):
    path = repository / "unet/config.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(ValueError, match="unet/config.json is truncated or no JSON file"):
        SnapGenPipeline.from_pretrained(repository)
    path.write_text("[]")
    with pytest.raises(ValueError, match="must hold a JSON object"):
        SnapGenPipeline.from_pretrained(repository)


def test_shapes_must_be_those_of_the_config(repository):
    edit_json(repository / "unet/config.json", temb_dim=64)
    with pytest.raises(ValueError, match=r"model.safetensors: tensor .* is \[.*\], but config.json makes it \[.*64"):
        SnapGenPipeline.from_pretrained(repository)
    edit_json(repository / "unet/config.json", temb_dim=32, first_stage="other")
    with pytest.raises(ValueError, match=r"unet/config.json does not describe a SnapGenUNet2D.*first_stage"):
        SnapGenPipeline.from_pretrained(repository)


def test_a_config_for_a_giant_is_refused_without_allocating_it(repository):
    edit_json(repository / "unet/config.json", block_out_channels=[32768, 65536])
    with pytest.raises(ValueError, match="but config.json makes it"):
        check_repository(repository)


@pytest.mark.parametrize("component", ["unet/diffusion_pytorch_model", "text_encoder/model", "text_encoder_3/model"])
def test_lost_and_unknown_tensors(repository, component):
    path = repository / f"{component}.safetensors"
    tensors = load_file(path)
    key = sorted(tensors)[0]
    lost = tensors.pop(key)
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ValueError, match=f"tensor {key} is missing"):
        check_repository(repository)
    save_file({**tensors, key: torch.zeros(3, 3, 3)}, path, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"tensor {key} is \[3, 3, 3\], but config.json makes it"):
        check_repository(repository)
    save_file({**tensors, key: lost, "stranger": torch.zeros(1)}, path, {"format": "pt"})
    if component.startswith("unet"):
        with pytest.raises(ValueError, match="tensor stranger is unknown"):
            check_repository(repository)


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.bin", "optimizer.pt", "vae/old.PKL"])
def test_pickles_are_refused(repository, name):
    (repository / name).write_bytes(b"\x80")
    with pytest.raises(ValueError, match="is a pickle"):
        SnapGenPipeline.from_pretrained(repository)


def test_a_single_model_is_checked_as_a_component_is(written, repository):
    folder, cls = repository / "unet", type(written[0].unet)
    check_model(folder, cls)
    tensors = load_file(repository / UNET)
    key = sorted(tensors)[0]
    save_file({**tensors, key: torch.zeros(3, 3, 3)}, repository / UNET, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"tensor {key} is \[3, 3, 3\], but config.json makes it"):
        check_model(folder, cls)
    (folder / "old.pt").write_bytes(b"\x80")
    with pytest.raises(ValueError, match="is a pickle"):
        check_model(folder, cls)
    with pytest.raises(FileNotFoundError, match="no checkpoint folder at"):
        check_model(folder / "none", cls)


def test_index_may_name_known_libraries_only(repository):
    index = repository / "model_index.json"
    edit_json(index, unet=["os", "system"])
    with pytest.raises(ValueError, match="takes unet from 'os'"):
        SnapGenPipeline.from_pretrained(repository)
    edit_json(index, unet=["pocket_diffusers.hub_models.unet_snapgen", "Nothing"])
    with pytest.raises(ValueError, match="does not exist here"):
        SnapGenPipeline.from_pretrained(repository)
    check_repository(repository, skip={"unet"})


def test_parts_that_the_class_does_not_take_are_left_alone(repository):
    """As diffusers leaves them: nothing is imported, and nothing need be there."""
    edit_json(repository / "model_index.json", safety_checker=["antigravity", "Checker"], feature_extractor=["os", "x"])
    loaded = SnapGenPipeline.from_pretrained(repository)
    assert "safety_checker" not in loaded.components and "antigravity" not in sys.modules
    with pytest.raises(ValueError, match="takes safety_checker from 'antigravity'"):
        check_repository(repository)


def test_shards_are_checked(written, tmp_path):
    pipeline, _ = written
    folder = tmp_path / "sharded"
    pipeline.save_pretrained(folder, max_shard_size="20KB")
    shards = sorted((folder / "unet").glob("*.safetensors"))
    assert len(shards) > 2
    check_repository(folder)
    assert torch.equal(picture(SnapGenPipeline.from_pretrained(folder)), picture(pipeline))
    damage(shards[1], "cut")
    with pytest.raises(ValueError, match=f"{shards[1].name} is truncated"):
        check_repository(folder)
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match=f"{shards[1].name} is missing, though"):
        check_repository(folder)
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    edit_json(index, weight_map={"a": "../../elsewhere.safetensors"})
    with pytest.raises(ValueError, match="no weight_map of files beside it"):
        check_repository(folder)


def test_variants(written, tmp_path):
    pipeline, _ = written
    pipeline.save_pretrained(tmp_path, variant="fp16")
    check_repository(tmp_path, variant="fp16")
    assert SnapGenPipeline.from_pretrained(tmp_path, variant="fp16").unet is not None
    with pytest.raises(FileNotFoundError, match="text_encoder/model.safetensors is missing"):
        check_repository(tmp_path)


def make_clip(text_config) -> CLIPModel:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPModel(
        CLIPConfig(text_config=text_config.to_dict(), vision_config={**vision, "image_size": 16, "patch_size": 8})
    ).eval()


def test_text_tower_is_embedded_with_its_sha256(components, tmp_path):
    parts = components("l")
    clip = make_clip(parts["text_encoder"].config)
    clip.save_pretrained(tmp_path / "clip-nano")
    tower = text_tower(clip)
    ids = torch.tensor([[1, 4, 6, 9, 2, 0, 0, 0]])
    with torch.no_grad():
        assert torch.equal(tower(ids).pooler_output, clip.text_model(ids).pooler_output)
    tower.final_layer_norm.weight.data.add_(1)
    assert clip.text_model.final_layer_norm.weight.eq(1).all()  # a copy

    pipeline = SnapGenPipeline(**{**parts, "text_encoder": text_tower(clip)})
    folder = save_repository(pipeline, tmp_path / "out", embedded={"text_encoder": tmp_path / "clip-nano"})
    record = json.loads((folder / "embedded.json").read_text())["text_encoder"]
    original = hashlib.sha256((tmp_path / "clip-nano/model.safetensors").read_bytes()).hexdigest()
    assert (record["source"], record["source_sha256"]) == ("clip-nano", original)
    check_repository(folder, digests=True)
    tensors = load_file(folder / "text_encoder/model.safetensors")
    key = sorted(tensors)[0]
    save_file({**tensors, key: tensors[key] + 1}, folder / "text_encoder/model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="is not the encoder that embedded.json records"):
        check_repository(folder, digests=True)

    with pytest.raises(ValueError, match="'text_encoder_2', which is no model"):
        save_repository(pipeline, tmp_path / "no", embedded={"text_encoder_2": tmp_path / "clip-nano"})
    with pytest.raises(FileNotFoundError, match="must be a folder with an encoder"):
        save_repository(pipeline, tmp_path / "no", embedded={"text_encoder": tmp_path})
    assert not (tmp_path / "no").exists()


def test_saving_again_replaces_all_but_the_readme(written, repository):
    pipeline, _ = written
    (repository / "README.md").write_text("a card")
    (repository / "left-over.txt").write_text("old")
    save_repository(pipeline, repository, dtype=torch.float32)
    assert (repository / "README.md").read_text() == "a card"
    assert not (repository / "left-over.txt").exists()
    assert torch.equal(picture(SnapGenPipeline.from_pretrained(repository)), picture(pipeline))
    assert [path.name for path in repository.parent.iterdir()] == ["snapgen-tiny"]
    save_repository(pipeline, repository, readme="another")
    assert (repository / "README.md").read_text() == "another"


def test_nothing_is_half_written(written, repository, tmp_path):
    pipeline, _ = written
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # what a full disk does
    try:
        with pytest.raises(OSError, match="cannot write .*snapgen-tiny: "):
            save_repository(pipeline, repository)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["snapgen-tiny"]


def test_pipelines_of_other_packages_are_refused(written, tmp_path):
    class Stranger(SnapGenPipeline):
        pass

    Stranger.__module__ = "elsewhere"
    with pytest.raises(ValueError, match="Stranger is no pipeline of pocket_diffusers"):
        save_repository(Stranger(**written[0].components), tmp_path / "out")


def test_bad_targets(written, components, tmp_path):
    pipeline, _ = written
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is no checkpoint repository"):
        save_repository(pipeline, tmp_path)
    with pytest.raises(ValueError, match="deep cannot be made: .*notes.txt is a file"):
        save_repository(pipeline, tmp_path / "notes.txt" / "deep")
    broken = SnapGenPipeline(**components("l"))
    broken.unet.conv_in.weight.data[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match=r"unet.conv_in.weight holds values that torch.float16 cannot store"):
        save_repository(broken, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_read_shapes(tmp_path):
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros((), dtype=torch.int64), "c": torch.zeros(0, 4).bfloat16()}
    save_file(tensors, tmp_path / "x.safetensors", {"note": "kept apart"})
    assert read_shapes(tmp_path / "x.safetensors") == {"a": (2, 3), "b": (), "c": (0, 4)}


def test_local_paths_and_hub_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user" / "here").mkdir(parents=True)
    assert not is_local_path("user/snapgen-nano") and not is_local_path("other/snapgen-nano")
    for path in ("./x", "../x/y", "/x", "x", "a/b/c", "user/here", "user", tmp_path / "x"):
        assert is_local_path(path), path
