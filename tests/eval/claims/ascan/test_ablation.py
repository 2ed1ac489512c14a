import json
from dataclasses import replace

import pytest
import torch

from pocket_diffusers.eval.claims.ascan import ablation
from pocket_diffusers.eval.claims.ascan.ablation import (
    DESIGNS,
    OURS,
    Training,
    degraded_singles,
    train_design,
)
from pocket_diffusers.eval.claims.ascan.benchmark import BENCHMARK
from pocket_diffusers.eval.scores.retrieval import world_records
from pocket_diffusers.training.datasets.pocketworld.scene import ALL_PAIRS


def settings(**changes):
    tiny = {"ablation_steps": (1, 2), "ablation_seeds": 3, "ablation_pictures": 8, "ablation_test_pictures": 6}
    return replace(BENCHMARK.settings, **{**tiny, "ablation_batch": 4, **changes})


def measure(output, **changes):
    return BENCHMARK.measure("ablation", output, settings(**changes))


@pytest.fixture
def learned(monkeypatch):
    """Replaces training: accuracy is a function of design, seed and steps; notes what was trained."""
    trained = []
    level = {"asymmetric": 0.5, "symmetric": 0.4, "inverted": 0.3, "coatnet": 0.45}

    def train(name, seed, settings, *_):
        trained.append((name, seed))
        compute = tuple(ablation.training_compute(DESIGNS[name], steps, settings) for steps in settings.ablation_steps)
        accuracy = tuple(level[name] + 0.1 * seed + 0.01 * steps for steps in settings.ablation_steps)
        return Training(name, seed, compute, accuracy)

    monkeypatch.setattr(ablation, "train_design", train)
    monkeypatch.setattr(ablation, "ablation_data", lambda settings: (None, None))
    return trained


def test_designs_have_equal_parameters_and_depth():
    counts = [design.parameters() for design in DESIGNS.values()]
    assert max(counts) / min(counts) < 1.03
    assert len({tuple(map(len, design.stages)) for design in DESIGNS.values()}) == 1
    share = {name: [stage.count("T") / len(stage) for stage in design.stages] for name, design in DESIGNS.items()}
    assert share[OURS] == sorted(share[OURS]) and share["inverted"] == sorted(share["inverted"], reverse=True)
    assert set(share["symmetric"]) == {0.5} and share["coatnet"] == [0, 0, 1, 1]


def test_rows_are_means_over_seeds_at_equal_steps_and_at_equal_compute(learned, tmp_path):
    rows = {row.id: row for row in measure(tmp_path)}
    assert len(rows) == 7
    row = rows["ablation-asymmetric"]
    assert row.measured == pytest.approx(0.62) and row.n == 6  # 0.52, 0.62, 0.72
    reach = 4.30265 * 0.1 / 3**0.5  # Student's t of two degrees of freedom at 0.975
    assert row.interval == pytest.approx((0.62 - reach, 0.62 + reach), abs=1e-5)
    least = min(design.gmacs for design in DESIGNS.values())
    other = rows["ablation-over-inverted"]
    cost = DESIGNS["inverted"].gmacs
    share = torch.log2(torch.tensor(2 * least / cost)).item()  # between step 1 and step 2
    assert other.rival_measured == pytest.approx(0.3 + 0.1 + 0.01 + 0.01 * share, abs=1e-5)
    assert other.measured < row.measured, "coatnet is cheaper, so ours counts before its last step"
    assert (tmp_path / "ascan-ablation.png").is_file()


def test_an_interrupted_ablation_goes_on(learned, tmp_path, monkeypatch):
    complete = ablation.train_design

    def break_down(name, seed, *rest):
        if (name, seed) == ("inverted", 1):
            raise KeyboardInterrupt
        return complete(name, seed, *rest)

    monkeypatch.setattr(ablation, "train_design", break_down)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path)
    assert len(learned) == 6
    monkeypatch.setattr(ablation, "train_design", complete)
    rows = BENCHMARK.run(["ablation"], tmp_path, settings())
    assert len(rows) == 7 and len(learned) == len(set(learned)) == 12
    record = json.loads((tmp_path / "ascan" / "ablation.json").read_text())
    assert len(record["measurements"]) == 12 and BENCHMARK.failures(tmp_path) == []
    assert not (tmp_path / ".ascan.partial").exists()


def test_a_design_that_cannot_be_trained_has_rows_that_say_why(learned, tmp_path, monkeypatch):
    complete = ablation.train_design

    def diverge(name, seed, settings, train, test, folder):
        if (name, seed) == ("inverted", 1):
            folder.mkdir(parents=True)
            raise FloatingPointError("loss is nan in step 2")
        return complete(name, seed, settings)

    monkeypatch.setattr(ablation, "train_design", diverge)
    rows = {row.id: row for row in BENCHMARK.run(["ablation"], tmp_path, settings())}
    assert len(rows) == 7 and len(learned) == 11
    failed, beside = rows["ablation-inverted"], rows["ablation-over-inverted"]
    assert failed.measured is failed.interval is None and beside.rival_measured is beside.ratio is None
    for row in (failed, beside):
        assert row.claim.endswith(" The inverted (attention early) design failed: loss is nan in step 2.")
    assert beside.measured == rows["ablation-over-symmetric"].measured
    assert BENCHMARK.failures(tmp_path) == ["ablation: inverted failed: loss is nan in step 2"]
    assert [path.name for path in (tmp_path / "ascan").iterdir()] == ["ablation.json"], "nothing half-learned is left"
    (tmp_path / ".ascan.partial").mkdir()
    (tmp_path / "ascan" / "ablation.json").replace(tmp_path / ".ascan.partial" / "ablation.json")
    monkeypatch.setattr(ablation, "train_design", lambda name, seed, settings, *_: complete(name, seed, settings))
    assert all(row.measured is not None for row in measure(tmp_path)) and len(learned) == 12, "it is tried again"


def test_other_settings_learn_anew(learned, tmp_path):
    measure(tmp_path, ablation_seeds=1)
    measure(tmp_path, ablation_seeds=2)
    assert len(learned) == 8, "more seeds only add"
    rows = measure(tmp_path, ablation_seeds=1, ablation_steps=(1, 3))
    assert len(learned) == 12 and rows[0].interval is None
    (tmp_path / ".ascan.partial" / "ablation.json").write_text("{}")
    with pytest.raises(ValueError, match="is no record of a run"):
        measure(tmp_path)


def test_pictures_show_one_object_and_are_degraded():
    data = degraded_singles("test", 6, seed=2)
    assert data.pictures.shape == (6, 3, 32, 32) and data.pictures.abs().max() <= 1
    alone = [
        record
        for record, _ in zip(world_records("test", 32), range(60), strict=False)
        if len(record.scene.objects) == 1
    ]
    for index, (record, label) in enumerate(zip(alone, data.labels.tolist(), strict=False)):
        (thing,) = record.scene.objects
        assert ALL_PAIRS[label] == (thing.color, thing.shape) and data.names[label] == f"{thing.color} {thing.shape}"
        clean = torch.from_numpy(record.rgb).permute(2, 0, 1) / 127.5 - 1
        assert (data.pictures[index] - clean).abs().mean() < 0.3
    assert torch.equal(data.pictures, degraded_singles("test", 6, seed=2).pictures)


def test_training_goes_on_where_it_was_broken_off(tmp_path, monkeypatch):
    train, test = degraded_singles("train_all", 8, 1), degraded_singles("test", 6, 2)
    whole = train_design(OURS, 0, settings(), train, test, tmp_path / "whole")
    assert not (tmp_path / "whole").exists() and len(whole.accuracy) == 2
    batch, cost = settings().ablation_batch, DESIGNS[OURS].gmacs
    assert whole.compute == pytest.approx([3 * batch * cost * steps / 1000 for steps in (1, 2)])
    weights, real = [], ablation.accuracy

    def stop(model, data):
        weights.append(model.state_dict()["classifier.weight"].clone())
        if len(weights) == 2:
            raise KeyboardInterrupt
        return real(model, data)

    monkeypatch.setattr(ablation, "accuracy", stop)
    with pytest.raises(KeyboardInterrupt):
        train_design(OURS, 0, settings(), train, test, tmp_path / "broken")
    resumed = train_design(OURS, 0, settings(), train, test, tmp_path / "broken")
    assert resumed == whole and len(weights) == 3
    assert torch.equal(weights[1], weights[2]) and not torch.equal(weights[0], weights[1])


def test_accuracy_between_steps_follows_the_logarithm_of_compute():
    run = Training("asymmetric", 0, (1.0, 4.0), (0.2, 0.6))
    assert run.accuracy_at(2.0) == pytest.approx(0.4) and run.accuracy_at(4.0) == pytest.approx(0.6)
