"""The offline validator: what the Hub would refuse or show wrongly."""

import pytest

from pocket_diffusers.model_cards.validate import check_model_card, check_space_card

MODEL = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [snapgen]
model-index:
- name: x
  results:
  - task: {type: text-to-image}
    dataset: {name: PocketWorld, type: pocketworld}
    metrics:
    - {type: judge, value: 0.5}
---
# Title

re-implementation, weights trained on
PocketWorld. ![sheet](samples/sheet.png) [paper](https://arxiv.org/abs/2412.09619)
"""
SPACE = """---
title: SnapGen
emoji: "🧊"
colorFrom: blue
colorTo: green
sdk: gradio
sdk_version: 6.31.0
python_version: "3.11"
app_file: app.py
license: apache-2.0
short_description: pictures from text
models: [me/snapgen]
---
# Title
"""


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def test_good_cards_pass(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "sheet.png").touch()
    (tmp_path / "app.py").touch()
    assert check_model_card(MODEL, "card", tmp_path, "PocketWorld") == []
    assert check_space_card(SPACE, "card", tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("license: apache-2.0", "license: apache2", "license must be one of agpl-3.0"),
        ("license: apache-2.0\n", "", "license is missing"),
        ("license: apache-2.0", "license: other", "needs license_name and license_link"),
        ("library_name: diffusers", "library_name: pocket", "library_name must be one of "),
        ("pipeline_tag: text-to-image", "pipeline_tag: text-to-motion", "pipeline_tag must be one of "),
        ("tags: [snapgen]", "tags: snapgen", "tags must be a list of different texts"),
        ("tags: [snapgen]", "tags: [a, a]", "tags must be a list of different texts"),
        ("tags: [snapgen]", "tags: [a]\nlicence: mit", "'licence' is no key that the Hub knows"),
        ("value: 0.5", "value: half", "model-index holds 'half', which is no number"),
        ("  results:\n", "  outcome:\n", "model-index is malformed"),
        ("# Title", "Title", "has no title"),
        ("# Title", "# Title {{ x.y }}", "'{{ x.y }}' was not filled in"),
        ("# Title", "# Title /home/me/x", "'/home/me/x' is a path of one machine"),
        ("re-implementation", "implementation", "must say 're-implementation, weights trained on PocketWorld'"),
        ("---\nlicense", "license", "begins with front matter"),
    ],
)
def test_faults_of_model_cards(old, new, fault):
    faults = check_model_card(changed(MODEL, old, new), "card", data="PocketWorld")
    assert len(faults) == 1 and fault in faults[0] and faults[0].startswith("card: ")


def test_linked_files_must_be_there(tmp_path):
    faults = check_model_card(MODEL, "card", tmp_path, "PocketWorld")
    assert faults == ["card: 'samples/sheet.png' is linked, but is not there."]


def test_encoders_need_not_say_that_they_are_re_implementations():
    assert check_model_card(MODEL.replace("re-implementation", ""), "card") == []


def test_a_card_says_what_its_weights_learned_from_and_not_what_others_did():
    (fault,) = check_model_card(MODEL, "card", data="MotionWorld")
    assert "must say 're-implementation, weights trained on MotionWorld'" in fault
    assert check_model_card(MODEL.replace("PocketWorld.", "MotionWorld."), "card", data="MotionWorld") == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("colorFrom: blue", "colorFrom: teal", "colorFrom must be one of "),
        ("sdk: gradio", "sdk: shiny", "sdk must be one of "),
        ("sdk_version: 6.31.0\n", "", "sdk_version must be set"),
        ('python_version: "3.11"', "python_version: latest", "python_version must be a version such as "),
        ("pictures from text", "a" * 61, "short_description is longer than 60"),
        ("models: [me/snapgen]", "models: me/snapgen", "models must be a list"),
        ("title: SnapGen\n", "", "title is missing"),
    ],
)
def test_faults_of_space_cards(old, new, fault):
    faults = check_space_card(changed(SPACE, old, new), "card")
    assert any(fault in found for found in faults)


def test_app_must_be_there(tmp_path):
    assert check_space_card(SPACE, "card", tmp_path) == ["card: app_file 'app.py' is not there."]
