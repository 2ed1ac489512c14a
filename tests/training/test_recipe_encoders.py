"""The CLIPs that serve all methods: each stage runs on a little of PocketWorld, by its own name and by SnapGen's."""

import json

import datasets
import pytest
import torch
from transformers import AutoTokenizer, CLIPModel

from pocket_diffusers import cli
from pocket_diffusers.pipelines.weights import weights_digest
from pocket_diffusers.training import recipe_snapgen
from pocket_diffusers.training.recipe_encoders import STAGES, run

TINY = {"num_pictures": "48", "steps": "2", "batch_size": "8", "image_size": "32"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Both stages, two steps each; the first by the command."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        settings = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]
        assert cli.main(["train", "encoders", "--stage", "clip", "--output", str(folder), *settings]) == 0
        assert run("judge", "nano", folder, overrides=TINY) == folder / "judge" / "model"
        yield folder


def weights(model):
    return torch.cat([value.float().flatten() for value in model.state_dict().values()])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_leaves_a_clip_model_with_its_tokenizer(runs, stage):
    clip = CLIPModel.from_pretrained(runs / stage / "model")
    tokenizer = AutoTokenizer.from_pretrained(runs / stage / "model")
    tokens = tokenizer(["a red cube"], return_tensors="pt")
    output = clip(**tokens, pixel_values=torch.zeros(1, 3, 32, 32))
    assert output.logits_per_image.isfinite().all()
    assert clip.config.text_config.hidden_size == STAGES[stage].presets["nano"].text_width
    assert tokens.input_ids.shape == (1, 5), "words of the world are single tokens"


def test_snapgens_stages_of_that_name_are_these(runs, tmp_path):
    assert [recipe_snapgen.STAGES[stage] for stage in STAGES] == [*STAGES.values()]
    made = recipe_snapgen.run("judge", "nano", tmp_path, overrides=TINY)
    assert torch.equal(*(weights(CLIPModel.from_pretrained(path)) for path in (made, runs / "judge" / "model")))
    commands = [json.loads((path / "judge" / "training.json").read_text())[-1]["command"] for path in (runs, tmp_path)]
    assert [command.partition(" --")[0] for command in commands] == ["pocket train encoders", "pocket train snapgen"]


def test_clip_goes_on_from_a_model_with_a_frozen_text_tower(runs, tmp_path):
    init = runs / "clip" / "model"
    run("clip", "nano", tmp_path, seed=9, overrides=TINY | {"init": str(init), "frozen_text_layers": "2"})
    record = json.loads((tmp_path / "clip" / "training.json").read_text())
    assert [run["digest_in"] for run in record] == [{}, {"init": weights_digest(init)}]
    before, after = (CLIPModel.from_pretrained(path) for path in (init, tmp_path / "clip" / "model"))
    assert (tmp_path / "clip" / "model" / "tokenizer.json").read_bytes() == (init / "tokenizer.json").read_bytes()
    for part, moves in (("embeddings", False), ("encoder.layers.1", False), ("encoder.layers.2", True)):
        pair = (weights(clip.text_model.get_submodule(part)) for clip in (before, after))
        assert torch.equal(*pair) != moves, part


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"source": "elsewhere"}, "source must be 'pocketworld'.*not 'elsewhere'"),
        ({"frozen_text_layers": "-1"}, "frozen_text_layers must be at least 0.*not -1"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_nothing(tmp_path, overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        run("clip", "nano", tmp_path, overrides=overrides)
    assert not list(tmp_path.iterdir())
