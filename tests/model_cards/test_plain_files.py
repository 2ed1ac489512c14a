"""Copies for publishing: everything in a folder, and nothing of what lies elsewhere."""

import shutil
from pathlib import Path

import pytest

from pocket_diffusers.model_cards import publishing, wheel
from pocket_diffusers.model_cards.plain_files import copy_plain, refuse_links
from pocket_diffusers.model_cards.template import Sources
from pocket_diffusers.spaces import build_static as build

SECRET = "hf_do_not_publish"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "token").write_text(SECRET)
    return tmp_path / "elsewhere" / "token"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "given" / "unet").mkdir(parents=True)
    (tmp_path / "given" / "unet" / "config.json").write_text("{}")
    (tmp_path / "given" / ".hidden").touch()
    return tmp_path / "given"


def test_a_folder_and_a_file_are_copied(folder, tmp_path):
    copy_plain(folder, tmp_path / "new" / "copy", shutil.ignore_patterns(".*"))
    assert [path.name for path in sorted((tmp_path / "new" / "copy").rglob("*"))] == ["unet", "config.json"]
    copy_plain(folder / "unet" / "config.json", tmp_path / "a" / "b.json")
    assert (tmp_path / "a" / "b.json").read_text() == "{}"


@pytest.mark.parametrize("where", ["token", "unet/token", ".token", "unet/folder", "unet/broken"])
def test_a_link_is_named_and_nothing_is_copied(folder, secret, tmp_path, where):
    target = {"folder": secret.parent, "broken": tmp_path / "nowhere"}.get(Path(where).name, secret)
    (folder / where).symlink_to(target)
    with pytest.raises(ValueError, match=rf"given/{where} is a link to {target}, and links are not published"):
        copy_plain(folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_file_that_is_a_link_is_refused_and_a_folder_reached_by_one_is_not(folder, secret, tmp_path):
    (tmp_path / "link").symlink_to(secret)
    with pytest.raises(ValueError, match="is a link to"):
        copy_plain(tmp_path / "link", tmp_path / "copy")
    (tmp_path / "latest").symlink_to(folder)
    refuse_links(tmp_path / "latest")


def test_a_link_that_is_left_out_does_no_harm(folder, secret, tmp_path):
    (folder / "build").symlink_to(secret.parent)
    copy_plain(folder, tmp_path / "copy", shutil.ignore_patterns("build"))
    assert not (tmp_path / "copy" / "build").exists()


def linked_weights(world, secret: Path, out: Path) -> None:
    (world.weights / "unet" / "notes.txt").symlink_to(secret)
    publishing.assemble_model("snapgen-nano", "me/snapgen", out, secret, world.sources)


def linked_results(world, secret: Path, out: Path) -> None:
    results = out.parent / "own-results"
    shutil.copytree(Sources().results, results)
    (results / "snapgen-notes").mkdir()
    (results / "snapgen-notes" / "token").symlink_to(secret)
    publishing.assemble_model("snapgen-nano", "me/snapgen", out, secret, Sources(results=results))


def linked_space(world, secret: Path, out: Path) -> None:
    spaces = out.parent / "spaces" / "snapgen"
    spaces.mkdir(parents=True)
    (spaces / "app.py").touch()
    (spaces / "notes.txt").symlink_to(secret)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "_SPACES", spaces.parent)
        publishing.assemble_space("snapgen", "me/snapgen", out, secret)


def linked_bundle(world, secret: Path, out: Path) -> None:
    bundle = out.parent / "bundle"
    (bundle / "tokenizer").mkdir(parents=True)
    for name in ("contract.json", "unet.onnx"):
        (bundle / name).write_text("{}")
    (bundle / "tokenizer" / "tokenizer.json").symlink_to(secret)
    build.build_static("snapgen", out, bundle=bundle)


def linked_checkout(world, secret: Path, out: Path) -> None:
    root = out.parent / "checkout"
    (root / "model_cards").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    (root / "model_cards" / "notes.md").symlink_to(secret)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wheel, "_ROOT", root)
        patch.setattr(wheel, "_installed", lambda: None)
        wheel.build_wheel(out)


@pytest.mark.parametrize("attempt", [linked_weights, linked_results, linked_space, linked_bundle, linked_checkout])
def test_nothing_that_is_published_follows_a_link(world, secret, tmp_path, attempt):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="is a link to .*token, and links are not published"):
        attempt(world, secret, out)
    assert not [path for path in out.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
