"""README's table of methods, between two markers."""

import json

import pytest

from pocket_diffusers.model_cards import method_table as module
from pocket_diffusers.model_cards.method_table import (
    BEGIN,
    END,
    check_method_table,
    method_table,
    with_method_table,
    write_method_table,
)


@pytest.fixture(autouse=True)
def one_method(monkeypatch):
    monkeypatch.setattr(module, "METHODS", {"snapgen": module.METHODS["snapgen"]})


def test_table(world):
    plans = [
        {"slug": "snapgen", "name": "SnapGen", "makes": "twice", "paper": "1"},
        {"slug": "ascan", "name": "AsCAN", "makes": "masks", "paper": "2411.04967"},
    ]
    (world.sources.cards / "planned.json").write_text(json.dumps(plans))
    lines = method_table(world.sources).splitlines()
    link = "[2412.09619](https://arxiv.org/abs/2412.09619)"
    assert lines[2] == f"| SnapGen | pictures from text | {link} | 0.81 named right |"
    assert lines[3].startswith("| AsCAN | masks |") and lines[3].endswith("| planned |") and len(lines) == 4


def test_renewal_touches_nothing_else(world, tmp_path, row):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nend\n")
    assert "is stale" in check_method_table(readme, world.sources)[0]
    write_method_table(readme, world.sources)
    assert check_method_table(readme, world.sources) == []
    assert readme.read_text() == f"# Title\n\n{BEGIN}\n{method_table(world.sources)}\n{END}\n\nend\n"
    world.set_rows(row(measured=0.5))
    assert "is stale" in check_method_table(readme, world.sources)[0]


@pytest.mark.parametrize("text", ["none", f"{BEGIN}\n", f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_markers(world, text):
    with pytest.raises(ValueError, match="README must hold the line"):
        with_method_table(text, "README", world.sources)


def test_status_cannot_name_a_number_by_itself(world):
    world.edit_template('"{{ named-right.measured:.2f }} named right"', "0.99 named right")
    with pytest.raises(ValueError, match=r"status, line 1: nobody measured 0\.99"):
        method_table(world.sources)
