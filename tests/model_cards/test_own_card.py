"""Cards of a user's own weights: what his files say, his own README where he wrote one, and nothing of ours."""

import json
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from pocket_diffusers import checkpoint
from pocket_diffusers.model_cards.own_card import (
    HUB_TASKS,
    TEMPLATE,
    own_card,
    own_card_faults,
    render_own_card,
    write_own_card,
)
from pocket_diffusers.model_cards.own_weights import read_own_weights
from pocket_diffusers.model_cards.placeholders import refuse_bare_numbers
from pocket_diffusers.model_cards.render import render_card
from pocket_diffusers.model_cards.validate import PIPELINE_TAGS, check_own_card
from pocket_diffusers.model_cards.wheel import WHEEL
from pocket_diffusers.pipelines import METHODS
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline
from pocket_diffusers.pipelines.repository import save_repository

REPO = "me/mine"


def rendered(folder: Path, *arguments: object, **options: object) -> str:
    return render_own_card(read_own_weights(folder), *arguments, **options)


def kept(folder: Path, **options: object) -> tuple[str, list[str]]:
    """The card to publish, and what was said."""
    said: list[str] = []
    return own_card(read_own_weights(folder), REPO, say=said.append, **options), said


def test_a_card_says_what_the_files_hold(painter):
    text = rendered(painter, REPO)
    front = ModelCard(text).data.to_dict()
    assert front == {
        "license": "unknown", "library_name": "diffusers", "pipeline_tag": "text-to-image",
        "tags": ["snapgen", "text-to-image", "diffusers", "arxiv:2412.09619"],
    }  # fmt: skip
    pipeline = SnapGenPipeline.from_pretrained(painter)
    for name in ("unet", "vae", "text_encoder"):
        model = getattr(pipeline, name)
        count = sum(tensor.numel() for tensor in model.parameters())
        assert re.search(rf"\| `{name}` \| `{type(model).__name__}` \| .* \| {count:,} \| F32 \|", text)
    assert f"# {REPO}\n" in text and f"# pip install https://huggingface.co/{REPO}/resolve/main/{WHEEL}" in text
    assert f'from_pretrained("{REPO}", trust_remote_code=True)' in text and "`pipeline_snapgen.py`" in text
    assert f"pocket demo snapgen --model {REPO}" in text and "Nothing was measured of them" in text
    assert check_own_card(text, "card") == [] and "{{" not in text


def test_nothing_of_ours_is_claimed(tmp_path):
    ours = tmp_path / "mine"
    shutil.copytree(checkpoint("snapgen-nano"), ours)  # a fine-tuning that began with a copy
    text, said = kept(ours)
    assert said == [] and text == rendered(ours, REPO)
    for claim in ("PocketWorld", "sheet.png", "model-index", "judge", "pocket train snapgen", "apache-2.0"):
        assert claim not in text
    (ours / "README.md").write_text(render_card("snapgen-nano", "them/snapgen"))
    assert kept(ours) == (text, [])
    assert "| `unet` | `SnapGenUNet2DConditionModel` | `nano`, sample size 8 |" in text


def test_a_stub_and_a_card_of_an_earlier_push_are_rendered_anew(painter):
    save_repository(SnapGenPipeline.from_pretrained(painter), painter)
    assert "apache-2.0" in (painter / "README.md").read_text()
    assert kept(painter) == (rendered(painter, REPO), [])
    for private in (False, True):
        (painter / "README.md").write_text(rendered(painter, "me/other", "mit", private))
        assert kept(painter) == (rendered(painter, REPO, "mit"), [])
        assert kept(painter, license="gemma") == (rendered(painter, REPO, "gemma"), [])
    (painter / "README.md").write_text(rendered(painter, "me/other", "mit") + "\nA line of his own.\n")
    assert len(kept(painter)[1]) == 1


def test_a_readme_of_his_own_is_the_card(reader):
    text = (
        "---\nlicense: gemma\nlibrary_name: diffusers\npipeline_tag: image-classification\ntags: [a]\nx: 1\n---\nHi\n"
    )
    (reader / "README.md").write_text(text)
    assert kept(reader) == (text, [f"keeping {reader / 'README.md'} as the card"])
    assert check_own_card(text, "card") == []


def test_a_readme_without_front_matter_gets_it(reader):
    (reader / "README.md").write_text("# Mine\n\nIt reads my letters.\n")
    text, said = kept(reader, license="mit")
    assert len(said) == 1 and text.endswith("\n# Mine\n\nIt reads my letters.\n")
    assert ModelCard(text).data.license == "mit" and ModelCard(text).data.pipeline_tag == "image-classification"
    assert check_own_card(text, "card") == []


def test_broken_front_matter_is_refused(reader):
    (reader / "README.md").write_text("---\nlicense: [\n---\n# Mine\n")
    with pytest.raises(ValueError, match="front matter is no YAML"):
        kept(reader)


def test_a_readme_that_is_a_link_is_refused(reader, tmp_path):
    (tmp_path / "notes").write_text("# secret\n")
    (reader / "README.md").symlink_to(tmp_path / "notes")
    with pytest.raises(ValueError, match=r"README\.md is a link to"):
        kept(reader)


def test_base_model(painter):
    config = painter / "unet" / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"_name_or_path": "/hub/models--me--snapgen/snapshots/0/unet"}))
    text = rendered(painter)
    assert ModelCard(text).data.base_model == "me/snapgen" and "They were made from `me/snapgen`." in text
    config.write_text(json.dumps(content | {"_name_or_path": f"{checkpoint('snapgen-nano')}/unet"}))
    text = rendered(painter)
    assert ModelCard(text).data.base_model is None and "They were made from `snapgen-nano`." in text


def test_licence(reader):
    assert "license: mit\n" in rendered(reader, license="mit") and "Weights: mit." in rendered(reader, license="mit")
    with pytest.raises(ValueError, match=r"license 'apache2' is unknown: use one of .*nearest: 'apache-2.0'"):
        rendered(reader, license="apache2")
    assert "needs license_name and license_link" in check_own_card(rendered(reader, license="other"), "card")[0]
    (reader / "LICENSE").write_text("mine")
    text = rendered(reader, license="other")
    assert ModelCard(text).data.license_link == "LICENSE" and check_own_card(text, "card", reader) == []


def test_a_private_repository_is_not_installed_from_by_its_address(reader):
    text = rendered(reader, REPO, private=True)
    assert f"# hf download {REPO} {WHEEL} --local-dir .\n# pip install ./{WHEEL}\n" in text
    assert "pip install https" not in text and "hf auth login" in text


def test_every_task_has_a_tag_that_the_hub_knows():
    tasks = {task for tasks in METHODS.values() for task in tasks}
    assert all(task in PIPELINE_TAGS or HUB_TASKS[task] in PIPELINE_TAGS for task in tasks)


def test_the_template_states_no_number():
    refuse_bare_numbers(TEMPLATE.read_text(), str(TEMPLATE))


def test_write_and_check(reader):
    own = read_own_weights(reader)
    with pytest.raises(FileNotFoundError, match=r"README\.md is missing"):
        own_card_faults(own)
    with pytest.raises(IsADirectoryError, match="is a folder: name the card's file"):
        write_own_card(own, reader)
    write_own_card(own, reader / "README.md", "mit")
    assert own_card_faults(own) == []
    with pytest.raises(ValueError, match="license is 'other'"):
        write_own_card(own, reader / "new.md", "other")
    assert not (reader / "new.md").exists()
    (reader / "README.md").write_text("---\nlicense: mit\nbase_model: /fsx/me/unet\n---\n[x](gone.png) /home/me/x\n")
    faults = " ".join(own_card_faults(own))
    for fault in (
        "library_name is missing",
        "'/fsx/me/unet' is a path",
        "'/home/me/x' is a path",
        "'gone.png' is linked",
    ):
        assert fault in faults
