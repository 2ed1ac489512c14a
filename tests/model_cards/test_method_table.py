"""README's table of methods."""

import json

import pytest

from pocket_diffusers.model_cards import method_table as module
from pocket_diffusers.model_cards.method_table import method_table


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


def test_status_cannot_name_a_number_by_itself(world):
    world.edit_template('"{{ named-right.measured:.2f }} named right"', "0.99 named right")
    with pytest.raises(ValueError, match=r"status, line 1: nobody measured 0\.99"):
        method_table(world.sources)
