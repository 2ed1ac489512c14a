"""The Space of a user's own weights: its app loads his repository, its card speaks of him."""

import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pocket_diffusers.model_cards import publishing
from pocket_diffusers.model_cards.own_space import write_own_space
from pocket_diffusers.model_cards.own_weights import read_own_weights
from pocket_diffusers.model_cards.wheel import WHEEL
from pocket_diffusers.spaces import look


@pytest.fixture
def space(reader: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "space"
    shutil.copytree(publishing._SPACES / "ascan", folder)
    write_own_space(read_own_weights(reader), "me/mine", folder)
    return folder


def test_its_app_loads_the_repository_when_it_is_run(space, monkeypatch):
    asked, served = [], []
    monkeypatch.setattr(
        look, "space_app", lambda slug: SimpleNamespace(build=lambda model: asked.append((slug, model)))
    )
    monkeypatch.setattr(look, "serve", served.append)
    runpy.run_path(str(space / "app.py"))
    assert asked == served == []
    runpy.run_path(str(space / "app.py"), run_name="__main__")
    assert asked == [("ascan", "me/mine")] and served == [None]


def test_its_card_claims_nothing_of_ours(reader, tmp_path):
    wheel = tmp_path / WHEEL
    wheel.touch()
    publishing.assemble_space("ascan", "me/mine", tmp_path / "out", wheel, own=read_own_weights(reader))
    text = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert (front["title"], front["models"], front["sdk"]) == ("mine", ["me/mine"], "gradio")
    assert "PocketWorld" not in text and "WHEEL" not in text and "OWNER" not in text
    assert "weights of AsCAN for image-classification" in text and "pocket demo ascan --model me/mine" in text
    assert "resolve/main/" + WHEEL in (tmp_path / "out" / "requirements.txt").read_text()
