"""What the stages of every recipe share, with a recipe of one small net."""

import json
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from PIL import Image

from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.pipelines.weights import weights_digest
from pocket_diffusers.training import stages
from pocket_diffusers.training.datasets.rows import center_crop, picture
from pocket_diffusers.training.preset import Preset
from pocket_diffusers.training.stages import Stage, StageRun, on_main_process, run_stage
from pocket_diffusers.training.training_chain import gaps, read_chain


@dataclass(frozen=True, kw_only=True)
class Sketch(Preset):
    source: str = "memory"
    image_size: int = 32
    batch_size: int = 4
    steps: int = 2
    model: str = "nano"


class Dimming:
    """An objective: logits of random pictures go to zero."""

    def __init__(self, model):
        self.parts = {"model": model}
        self.pictures = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def optimizer(self, part):
        return torch.optim.SGD(self.parts[part].parameters(), 0.1)

    def loss(self, part, batch, generator):
        return self.parts[part](self.pictures[batch]).logits.float().square().mean(), {}

    def preview(self, modules):
        return None


def train_sketch(preset, run):
    model = run.new_model(AsCANModel, "net", num_classes=2, image_size=preset.image_size)
    run.learn(Dimming(model), run.indices(8))
    return run.save(model)


STAGES = {"sketch": Stage(train_sketch, {"nano": Sketch(), "paper": Sketch(source="")}), "paint": Stage(None, {})}
paint = partial(run_stage, "someone", STAGES)


def weights(folder):
    return torch.cat([value.flatten() for value in AsCANModel.from_pretrained(folder).state_dict().values()])


@pytest.fixture(scope="module")
def sketch(tmp_path_factory):
    return paint("sketch", "nano", tmp_path_factory.mktemp("runs"), seed=3, overrides={"steps": "3"})


def test_a_stage_leaves_its_model_and_the_record_of_who_made_it(sketch):
    assert sketch.parts[-2:] == ("sketch", "model") and weights(sketch).isfinite().all()
    record = json.loads((sketch.parent / "training.json").read_text())[-1]
    assert record["command"] == "pocket train someone --stage sketch --preset nano --seed 3 --set steps=3"
    assert (record["method"], record["stage"], record["preset"]) == ("someone", "sketch", "nano")
    assert record["settings"]["seed"] == 3 and record["settings"]["batch_size"] == 4
    assert json.loads((sketch.parent / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 3


def test_a_stage_that_goes_on_from_another_tells_both_runs(sketch, tmp_path):
    overrides = {"init": str(sketch), "steps": "1"}
    again = [paint("sketch", "nano", tmp_path / name, seed=4, overrides=overrides) for name in "ab"]
    chain = read_chain(again[0].parent / "training.json")
    assert chain[0] == read_chain(sketch.parent / "training.json")[0] and gaps(chain) == []
    assert chain[1]["digest_in"] == {"init": weights_digest(sketch)} == {"init": chain[0]["digest_out"]}
    assert chain[1]["digest_out"] == weights_digest(again[0]) == weights_digest(again[1]) != weights_digest(sketch)
    assert chain[1]["command"].endswith("--seed 4 --set init=EARLIER --set steps=1")


def test_a_seed_says_what_is_learned(sketch, tmp_path):
    again, other = (paint("sketch", "nano", tmp_path / str(s), seed=s, overrides={"steps": "3"}) for s in (3, 4))
    assert torch.equal(weights(again), weights(sketch)) and not torch.equal(weights(other), weights(sketch))


def test_a_run_goes_on_unless_it_is_told_not_to(sketch, tmp_path):
    with pytest.raises(ValueError, match="holds a run already"):
        paint("sketch", "nano", sketch.parents[1], resume=False, seed=3)
    with pytest.raises(ValueError, match="batch_size"):
        paint("sketch", "nano", sketch.parents[1], seed=3, overrides={"batch_size": "2"})
    before = weights(sketch)
    assert paint("sketch", "nano", sketch.parents[1], seed=3, overrides={"steps": "3"}) == sketch
    assert torch.equal(weights(sketch), before)


@pytest.mark.parametrize(
    ("stage", "preset", "overrides", "sentence"),
    [
        ("sketsh", "nano", {}, r"stage 'sketsh' is unknown: use one of sketch, paint \(nearest: 'sketch'\)"),
        ("sketch", "papre", {}, r"preset 'papre' is unknown: use one of nano, paper \(nearest: 'paper'\)"),
        (
            "sketch",
            "nano",
            {"stepz": "3"},
            r"setting of stage sketch 'stepz' is unknown: use one of source, .*\(nearest: 'steps'\)",
        ),
        ("sketch", "nano", {"steps": "0"}, "steps must be at least 1.*not 0"),
        (
            "sketch",
            "paper",
            {},
            "source must be your captioned pictures: a Hub dataset id, a folder or .*, not ''",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_nothing(tmp_path, stage, preset, overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        paint(stage, preset, tmp_path, overrides=overrides)
    assert not list(tmp_path.iterdir())


def run_in(folder, **changes):
    return StageRun(STAGES, Sketch(**changes), folder / "sketch", resume=True)


@pytest.mark.parametrize("skipping", [False, True])
def test_bad_rows_stop_a_stage_unless_it_skips_them(skipping, tmp_path):
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    run = run_in(tmp_path, source=str(tmp_path), skip_bad_rows=skipping, batch_size=2)
    batches = run.stream(lambda row, size, image_column: (center_crop(picture(row, image_column), size),))
    if skipping:
        assert next(batches(0, 0, 1))[0].shape[0] == 2 and "1 bad row, such as row of '" in run.skipped.sentence()
    else:
        with pytest.raises(OSError, match=r"b\.png"):
            next(batches(0, 0, 1))


def test_a_new_model_is_the_seeds_or_the_one_to_go_on_from(sketch, tmp_path):
    torch.manual_seed(5)
    expected = AsCANModel.from_preset("nano", num_classes=2).state_dict()
    made = run_in(tmp_path, seed=5).new_model(AsCANModel, num_classes=2).state_dict()
    assert all(torch.equal(made[name], value) for name, value in expected.items())
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "net").symlink_to(sketch)
    for init in (sketch, tmp_path / "repository"):
        for run, given in ((run_in(tmp_path, init=str(init)), ""), (run_in(tmp_path, init="/nowhere"), init)):
            model = run.new_model(AsCANModel, "net", given)
            assert torch.equal(torch.cat([v.flatten() for v in model.state_dict().values()]), weights(sketch))


def test_attention_trains_in_the_form_that_is_fast_here_and_is_left_fused(tmp_path, monkeypatch):
    forms, seen = [], []
    monkeypatch.setattr(AsCANModel, "set_attention_form", lambda self, form: forms.append(form))
    monkeypatch.setattr(Dimming, "optimizer", lambda self, part: seen.extend(forms) or None)
    monkeypatch.setattr(stages, "train", lambda objective, *rest: objective.optimizer("model"))
    run_in(tmp_path).learn(Dimming(AsCANModel.from_preset("nano", num_classes=2)), None)
    assert seen == ["explicit"] and forms == ["explicit", "fused"]


def test_an_earlier_model_is_that_of_the_same_output_then_the_committed_one(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "_CHECKPOINTS", tmp_path)
    known = {"draft": Stage(None, {}, "some-nano/net"), "refine": Stage(None, {})}
    run = StageRun(known, Sketch(), tmp_path / "runs" / "paint", resume=True)
    for names in (("refine", "draft"), ("refine",)):
        with pytest.raises(FileNotFoundError, match=rf"no {names[-1]} model in .*runs: train stage {names[-1]} into"):
            run.earlier(*names)
    for folder in ("some-nano/net", "runs/draft/model", "runs/refine/model"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text("{}")
        assert run.earlier("refine", "draft") == tmp_path / folder


def test_an_output_that_cannot_be_written_to_shows_before_any_data(tmp_path):
    (tmp_path / "sketch").write_text("a file")
    known = {"sketch": Stage(lambda preset, run: pytest.fail("it began"), {"nano": Sketch()})}
    with pytest.raises(OSError, match="output .* cannot be written to"):
        run_stage("house", known, "sketch", "nano", tmp_path)


def test_pocketworld_is_read_as_the_preset_says(tmp_path):
    assert run_in(tmp_path, num_pictures=7).pocketworld(lambda *numbers: numbers) == ("train", 32, 7)


@pytest.mark.parametrize("main", [True, False])
def test_one_process_writes_and_all_wait(monkeypatch, main):
    done = []
    state = SimpleNamespace(is_main_process=main, wait_for_everyone=lambda: done.append("waited"))
    monkeypatch.setattr(stages, "PartialState", lambda: state)
    on_main_process(lambda: done.append("wrote"))
    assert done == (["wrote", "waited"] if main else ["waited"])


def test_a_pipeline_s_folder_is_an_earlier_model(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "_CHECKPOINTS", tmp_path)
    left = tmp_path / "sketch" / "model"
    left.mkdir(parents=True)
    (left / "model_index.json").write_text("{}")
    assert run_in(tmp_path).earlier("sketch") == left


def test_attention_of_diffusers_models_trains_in_its_explicit_form_on_a_cpu(tmp_path, monkeypatch):
    unet = UNet2DConditionModel(
        sample_size=4, block_out_channels=(8,), layers_per_block=1, attention_head_dim=2, cross_attention_dim=8,
        norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
    )  # fmt: skip
    seen = []
    monkeypatch.setattr(stages, "train", lambda *given: seen.extend(map(type, unet.attn_processors.values())))
    run_in(tmp_path).learn(SimpleNamespace(parts={"unet": unet}), None)
    assert len(seen) > 4 and set(seen) == {AttnProcessor}
    assert {type(each) for each in unet.attn_processors.values()} == {AttnProcessor2_0}
