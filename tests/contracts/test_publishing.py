"""What every method's `pocket push` keeps: it puts whole repositories together, and plain diffusers loads them."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
from huggingface_hub import constants

import pocket_diffusers
from pocket_diffusers import checkpoint
from pocket_diffusers.model_cards import publishing
from pocket_diffusers.model_cards.own_weights import read_own_weights
from pocket_diffusers.model_cards.publishing import Part, assemble, assemble_own
from pocket_diffusers.model_cards.render import cards_of
from pocket_diffusers.model_cards.wheel import WHEEL, build_wheel
from pocket_diffusers.pipelines import METHODS, pipeline_class

MIRROR = "https://mirror.example"
MINE = "not to be published"
LOAD = """
import json
import sys

from diffusers import DiffusionPipeline

for folder in sys.argv[1:]:
    pipeline = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    print(json.dumps([type(pipeline).__module__, type(pipeline).__name__]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> dict[str, list[Part]]:
    """slug -> the parts that `pocket push` would send; the wheel is built once for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", MIRROR)
        patch.setattr(publishing, "build_wheel", lambda folder: Path(shutil.copy(wheel, folder)))
        return {slug: assemble(slug, f"me/{slug}", tmp_path_factory.mktemp(slug)) for slug in METHODS}


def is_pipeline(part: Part) -> bool:
    """Whether a model repository is one of a pipeline, and not of a single model such as one that judges."""
    return (part.folder / "model_index.json").is_file()


TASKS = [(slug, task) for slug, tasks in METHODS.items() for task in tasks]


@pytest.fixture(scope="module")
def own_pushed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> dict[tuple[str, str], list[Part]]:
    """(slug, task) -> the parts of a tiny pipeline that somebody saved, among what a training leaves beside it."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", MIRROR)
        patch.setattr(publishing, "build_wheel", lambda folder: Path(shutil.copy(wheel, folder)))
        for slug, task in TASKS:
            folder = tmp_path_factory.mktemp("saved") / f"my-{slug}"
            import_module(f"tiny_{slug}").PIPELINES[task].make().save_pretrained(folder)
            (folder / "checkpoint-8").mkdir()
            (folder / "checkpoint-8" / "optimizer.bin").write_text(MINE)
            (folder / "notes.txt").write_text(MINE)
            target = tmp_path_factory.mktemp("own")
            made[slug, task] = assemble_own(read_own_weights(folder), f"me/my-{slug}", target)
    return made


@pytest.mark.parametrize("name", TASKS, ids="-".join)
def test_ones_own_weights_of_every_task_and_their_space_are_put_together(own_pushed, name):
    slug, task = name
    model, space = own_pushed[name]
    assert (model.repo, space.repo, space.sdk) == (f"me/my-{slug}", f"me/my-{slug}", "gradio")
    card = (model.folder / "README.md").read_text()
    assert f"# {model.repo}\n" in card and f"for {task}:" in card and "Nothing was measured of them" in card
    assert f"serve(space_app({slug!r}).build({space.repo!r}))" in (space.folder / "app.py").read_text().replace(
        '"', "'"
    )
    shim, cls = json.loads((model.folder / "model_index.json").read_text())["_class_name"]
    assert (model.folder / f"{shim}.py").is_file() and cls == pipeline_class(*name).__name__
    for path in (path for part in (model, space) for path in part.folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert MINE.encode() not in content and MIRROR.encode() not in content, path
        assert path.suffix == ".whl" or b"PocketWorld" not in content, path


@pytest.mark.parametrize("name", TASKS, ids="-".join)
def test_the_page_of_ones_own_weights_opens_and_claims_nothing_of_ours(own_pushed, name):
    pytest.importorskip("gradio", reason="Spaces need the extra 'demo'")
    from pocket_diffusers.spaces.look import space_app

    folder = own_pushed[name][0].folder
    demo = space_app(name[0]).build(str(folder))
    texts = [str(block.value) for block in demo.blocks.values() if getattr(block, "value", None)]
    assert any(f"Runs `{folder.name}`, weights that their owner made" in text for text in texts)
    assert not [text for text in texts if "PocketWorld" in text or str(folder) in text]


@pytest.mark.parametrize("slug", METHODS)
def test_every_weights_of_a_method_and_its_space_are_put_together(pushed, slug):
    models = [part for part in pushed[slug] if part.kind == "model"]
    assert [part.repo for part in models] == [
        f"me/{slug}{name.removeprefix(f'{slug}-nano')}" for name in cards_of(slug)
    ]
    assert [(part.repo, part.sdk) for part in pushed[slug] if part.kind == "space"] == [(f"me/{slug}", "gradio")]
    for part in models:
        assert f"# {part.repo}\n" in (part.folder / "README.md").read_text()
        assert (part.folder / "export").is_dir() == is_pipeline(part)
    for part in filter(is_pipeline, models):
        assert json.loads((part.folder / "export" / "contract.json").read_text())["slug"] == slug


@pytest.mark.parametrize("slug", METHODS)
def test_no_published_file_names_the_mirror_that_a_publisher_used(pushed, slug):
    for path in (path for part in pushed[slug] for path in part.folder.rglob("*") if path.is_file()):
        assert MIRROR.encode() not in path.read_bytes(), path


INSTALLED = re.compile(r"(?:pip3?|uv pip|pipx) install (?:-\S+ )*(.*)|^pocket-diffusers.*? @ (.*)", re.MULTILINE)


@pytest.mark.parametrize("slug", METHODS)
def test_what_a_reader_is_told_to_install_is_the_wheel_that_lies_there(pushed, own_pushed, slug):
    of_own = [part for (owner, _), parts in own_pushed.items() if owner == slug for part in parts]
    for part in [*pushed[slug], *of_own]:
        prefix = "spaces/" if part.kind == "space" else ""
        address = f"https://huggingface.co/{prefix}{part.repo}/resolve/main/{WHEEL}"
        assert zipfile.is_zipfile(part.folder / WHEEL)
        texts = [path for path in part.folder.rglob("*") if path.suffix in (".md", ".py", ".txt", ".html", ".js")]
        told = [(path, found[1] or found[2]) for path in texts for found in INSTALLED.finditer(path.read_text())]
        assert {path.name for path, _ in told} >= {"README.md"}
        for path, target in told:
            assert target.strip("'") in (address, f"pocket-diffusers[demo] @ {address}"), path


@pytest.mark.parametrize("name", cards_of(None))
def test_files_beside_the_weights_send_nobody_to_an_index(name):
    texts = [path.read_text() for path in checkpoint(name).iterdir() if path.suffix in (".md", ".py")]
    assert {found[1] for text in texts for found in INSTALLED.finditer(text)} == {WHEEL}
    shims = [text for text in texts if "trust_remote_code=True) load this" in text]
    assert all("install the wheel pocket_diffusers-*.whl" in " ".join(text.replace('"', "").split()) for text in shims)


def test_plain_diffusers_loads_what_was_pushed(pushed, own_pushed, tmp_path):
    models = [
        part for push in (pushed, own_pushed) for parts in push.values() for part in parts if part.kind == "model"
    ]
    folders = [part.folder for part in models if is_pipeline(part)]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", LOAD, *folders], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert run.returncode == 0, run.stderr
    loaded = [tuple(json.loads(line)) for line in run.stdout.splitlines() if line.startswith("[")]
    named = [json.loads((folder / "model_index.json").read_text())["_class_name"] for folder in folders]
    assert loaded == [(f"pocket_diffusers.pipelines.{shim}", name) for shim, name in named]
    for part in models:
        if not is_pipeline(part):
            name = json.loads((part.folder / "config.json").read_text())["_class_name"]
            getattr(pocket_diffusers, name).from_pretrained(part.folder)
