"""ControlMM's recipe: each stage runs on a few clips of the motion world and leaves what it promises."""

import json

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPTextModelWithProjection

from pocket_diffusers.hub_models.autoencoder_controlmm import MotionRVQVAE
from pocket_diffusers.hub_models.control_branch_controlmm import ControlMMControlBranch
from pocket_diffusers.hub_models.evaluator_controlmm import MotionTextEvaluator
from pocket_diffusers.hub_models.length_estimator_controlmm import ControlMMLengthEstimator
from pocket_diffusers.hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer
from pocket_diffusers.pipelines import METHODS
from pocket_diffusers.pipelines.motion.motion_features import MotionStatistics
from pocket_diffusers.pipelines.pipeline_controlmm import ControlMMPipeline
from pocket_diffusers.pipelines.weights import weights_digest
from pocket_diffusers.training.datasets.motion_clips import MotionClips
from pocket_diffusers.training.datasets.motionworld import load_motionworld
from pocket_diffusers.training.recipe_controlmm import STAGES, run
from pocket_diffusers.training.training_chain import gaps, read_chain

TRUNK = {"width": 16, "num_layers": 1, "num_heads": 2, "ff_width": 16}
SMALL = {
    MotionRVQVAE: {"width": 16, "depth": 1, "code_width": 8, "num_codes": 16, "num_quantizers": 3},
    ControlMMTransformer: {"num_codes": 16, "code_width": 8, "text_width": 24, **TRUNK},
    ControlMMResidualTransformer: {
        "num_quantizers": 3, "num_codes": 16, "code_width": 8, "text_width": 24, **TRUNK,
    },
    ControlMMControlBranch: {"conv_width": 8, "conv_depth": 1},
    ControlMMLengthEstimator: {"text_width": 24, "width": 16},
    MotionTextEvaluator: {
        "vocabulary_size": 96, "word_dim": 8, "pos_dim": 0, "movement_dim": 8, "motion_hidden_dim": 8,
        "text_hidden_dim": 8, "embedding_dim": 8,
    },
}  # fmt: skip
TINY = {"num_clips": "8", "steps": "2", "batch_size": "4"}
ORDER = ("text", "autoencoder", "base", "residual", "length", "control", "judge")


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    """The presets "nano" are smaller here, the method is known, and clips are kept elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setitem(METHODS, "controlmm", {"text-to-motion": "pipeline_controlmm:ControlMMPipeline"})
        for kind, options in SMALL.items():
            patch.setitem(kind.presets, "nano", options)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All stages of the nano model, two steps each."""
    folder = tmp_path_factory.mktemp("runs")
    for stage in ORDER:
        assert run(stage, "nano", folder, overrides=TINY) == folder / stage / "model"
    return folder


@pytest.fixture(scope="module")
def clips():
    return MotionClips.of(load_motionworld("train", 8, 0))


def test_stages_of_the_paper_have_its_numbers():
    assert set(STAGES) == set(ORDER) and all("nano" in stage.presets for stage in STAGES.values())
    paper = {name: stage.presets["paper"] for name, stage in STAGES.items() if "paper" in stage.presets}
    assert set(paper) == {"autoencoder", "base", "residual", "length", "control"}
    assert (paper["autoencoder"].window, paper["autoencoder"].batch_size) == (64, 256)
    assert (paper["base"].text_drop, paper["base"].noise, paper["base"].everywhere) == (0.1, 0.1, True)
    assert (paper["residual"].text_drop, paper["control"].text_drop) == (0.2, 0.0)
    pelvis = STAGES["control"].presets["paper-pelvis"]
    assert [(p.code_weight, p.joint_weight) for p in (paper["control"], pelvis)] == [(0.5, 0.5), (0.1, 0.9)]
    assert (pelvis.cross, pelvis.model) == (0.0, "paper-pelvis")
    assert {(p.learning_rate, p.warmup_steps) for p in paper.values()} == {(2e-4, 2000)}
    assert {p.batch_size for name, p in paper.items() if name != "autoencoder"} == {64}


@pytest.mark.parametrize(
    ("stage", "preset", "overrides", "sentence"),
    [
        ("autoencoder", "nano", {"window": "42"}, "window must be a multiple of 4, not 42"),
        (
            "autoencoder",
            "nano",
            TINY | {"window": "400"},
            "frames must be at most .*, those of the longest clip, not 400",
        ),
        ("base", "nano", {"text_drop": "2"}, r"text_drop must be in 0..1, not 2\.0"),
        ("base", "nano", {"noise": "-1"}, r"noise must be at least 0, not -1\.0"),
        ("control", "nano", {"cross": "1.5"}, r"cross must be in 0..1, not 1\.5"),
        ("judge", "nano", {"num_clips": "0"}, "num_clips must be at least 1, not 0"),
        ("base", "paper", {}, "source must be a folder of HumanML3D's layout, not ''"),
        ("text", "paper", {}, "preset 'paper' is unknown: use one of nano"),
        ("vae", "nano", {}, "stage 'vae' is unknown"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_nothing(tmp_path, stage, preset, overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(stage, preset, tmp_path, overrides=overrides)
    assert not list(tmp_path.iterdir())


def test_a_missing_stage_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("pocket_diffusers.training.stages._CHECKPOINTS", tmp_path / "none")
    for stage in ("base", "residual", "length", "control"):
        with pytest.raises(FileNotFoundError, match=r"no text model in .*: train stage text"):
            run(stage, "nano", tmp_path, overrides=TINY)
    assert not list(tmp_path.iterdir())


def test_text_leaves_an_encoder_that_tells_captions_apart(runs, clips):
    folder = runs / "text" / "model"
    encoder, tokenizer = CLIPTextModelWithProjection.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert encoder.config.projection_dim == 24 and encoder.config.vocab_size == len(tokenizer)
    longest = max(len(tokenizer(text).input_ids) for text in clips.every_caption())
    assert longest <= encoder.config.max_position_embeddings
    with torch.no_grad():
        said = encoder(**tokenizer(["a person walks", "a person runs"], return_tensors="pt")).text_embeds
    assert not torch.allclose(*said, atol=1e-4)


def test_autoencoder_leaves_codes_and_the_statistics_of_its_data(runs, clips):
    autoencoder = MotionRVQVAE.from_pretrained(runs / "autoencoder" / "model")
    statistics = MotionStatistics.of([clips.frames]).emphasised()
    assert torch.equal(autoencoder.mean, statistics.mean) and torch.equal(autoencoder.std, statistics.std)
    assert autoencoder.quantizer.counts[0].all(), "codes of the first layer are learned"


def test_base_and_residual_learned(runs):
    for stage, kind in (("base", ControlMMTransformer), ("residual", ControlMMResidualTransformer)):
        torch.manual_seed(0)
        start, left = kind.from_preset("nano"), kind.from_pretrained(runs / stage / "model")
        for name, value in left.named_parameters():
            assert not torch.equal(value, start.get_parameter(name)), name


def test_control_leaves_a_pipeline_that_moves(runs):
    pipeline = ControlMMPipeline.from_pretrained(runs / "control" / "model")
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline("a person walks forward", num_inference_steps=2, generator=torch.Generator().manual_seed(0))
    assert made.joints[0].isfinite().all() and 20 <= len(made.joints[0]) <= 196
    kinds = {"transformer": "base", "residual_transformer": "residual", "length_estimator": "length"}
    for name, stage in (kinds | {"autoencoder": "autoencoder"}).items():
        component = pipeline.components[name]
        stored = type(component).from_pretrained(runs / stage / "model").state_dict()
        assert all(torch.equal(value, stored[key].half().float()) for key, value in component.state_dict().items())
    branch = pipeline.control_branch
    assert branch.control_in.weight.any() and all(out.weight.any() for out in branch.layers_out), "they began at zero"


def test_judge_leaves_an_evaluator_with_its_words_and_statistics(runs, clips):
    folder = runs / "judge" / "model"
    evaluator, tokenizer = MotionTextEvaluator.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    statistics = MotionStatistics.load(folder / "Mean.npy", folder / "Std.npy")
    expected = MotionStatistics.of([clips.frames])
    np.testing.assert_array_equal(statistics.std.numpy(), expected.std.numpy())
    caption, frames = clips.captions[0][0], clips.frames[: clips.lengths[0]]
    ids = tokenizer(caption, return_tensors="pt").input_ids
    assert tokenizer.unk_token_id not in ids
    with torch.no_grad():
        said = evaluator(statistics.normalise(frames)[None], [len(frames)], ids, [ids.shape[1]])
    assert said.text.isfinite().all() and said.motion.shape == (1, 8)
    text = AutoTokenizer.from_pretrained(runs / "text" / "model")
    assert tokenizer.get_vocab() != text.get_vocab() and STAGES["judge"].presets["nano"].seed != 0
    assert STAGES["judge"].committed == "controlmm-nano-judge"


def test_every_stage_leaves_a_record_and_the_last_one_s_is_a_chain(runs):
    chain = read_chain(runs / "control" / "training.json")
    assert str(runs) not in json.dumps(chain)
    own = {entry["stage"]: entry for entry in chain}
    assert set(own) == set(ORDER) - {"judge"}, "the judge is no part of it"
    digests = {stage: own[stage]["digest_out"] for stage in own}
    names = {"text_encoder": "text", "autoencoder": "autoencoder", "base": "base", "residual": "residual"}
    assert own["control"]["digest_in"] == {
        name: digests[stage] for name, stage in (names | {"length": "length"}).items()
    }
    assert own["length"]["digest_in"] == {"text_encoder": digests["text"]}
    assert not gaps([own[stage] for stage in ORDER[:-1]])
    for stage in ORDER:
        (*_, entry) = read_chain(runs / stage / "training.json")
        assert entry["digest_out"] == weights_digest(runs / stage / "model")
        assert entry["command"].startswith(f"pocket train controlmm --stage {stage} --preset nano --set ")


def test_weights_of_momask_are_converted_in_place_of_learning(tmp_path):
    torch.manual_seed(5)
    wanted = ControlMMLengthEstimator(**SMALL[ControlMMLengthEstimator]).state_dict()
    theirs = {name.replace("layers.12.", "layers.11.").replace("layers.", "output."): wanted[name] for name in wanted}
    torch.save({"estimator": theirs, "epoch": 3}, tmp_path / "finest.tar")
    overrides = {**TINY, "init_from_momask": str(tmp_path / "finest.tar")}
    folder = run("length", "nano", tmp_path / "out", overrides=overrides)
    found = ControlMMLengthEstimator.from_pretrained(folder).state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    (record,) = read_chain(folder.parent / "training.json")
    assert "--set init_from_momask=" in record["command"] and str(tmp_path) not in json.dumps(record)


@pytest.mark.parametrize("stage", ["autoencoder", "base", "residual", "length"])
def test_every_network_of_momask_is_looked_for_where_one_says(stage, tmp_path):
    with pytest.raises(FileNotFoundError, match="net_best_fid.tar"):
        run(stage, "nano", tmp_path, overrides={**TINY, "init_from_momask": str(tmp_path / "net_best_fid.tar")})
    assert not (tmp_path / stage).exists()


@pytest.mark.parametrize("stage", ["text", "control", "judge"])
def test_momask_has_no_such_network(stage, runs, tmp_path):
    with pytest.raises(ValueError, match=f"^init_from_momask must be left out of stage {stage}: MoMask has networks"):
        run(stage, "nano", tmp_path, overrides={**TINY, "init_from_momask": "finest.tar"})
