"""LPGS's export: every kind of scene in ONNX and ExecuTorch against each tree by hand, and bundles as scenes."""

import numpy as np
import pytest
import torch
from naive_lpgs import tree_by_hand
from tiny_lpgs import CIRCLE
from tiny_lpgs import make_scene as trainable_scene

from pocket_diffusers.hub_models.gaussians_lpgs import LPGSGaussians
from pocket_diffusers.pipelines.export.back_ends import ExportJob, back_end_module
from pocket_diffusers.pipelines.export.export_bundle import export_pipeline
from pocket_diffusers.pipelines.export.exporter_config import dummy_inputs
from pocket_diffusers.pipelines.export.methods.export_lpgs import EXPORTS
from pocket_diffusers.pipelines.export.rehearsal import rehearse
from pocket_diffusers.pipelines.export.runtime import load_bundle
from pocket_diffusers.pipelines.pipeline_lpgs import LPGSPipeline
from pocket_diffusers.pipelines.repository import save_repository
from pocket_diffusers.pipelines.splat_conversion import read_source

EXPORT = EXPORTS[LPGSPipeline]
TREES = [4, 0, 119, 63, 4]
HASHED = {"hash_log2_size": 7, "hash_max_resolution": 20}  # a coarse level without a hash, a fine one with one
ONE_LEVEL = {**HASHED, "hash_levels": 1, "hash_base_resolution": 20}  # with a hash; exporters take long for each
NAMES = ("means", "log_scales", "quaternions", "opacity_logits", "sh")


def make_scene(**changes) -> LPGSGaussians:
    return trainable_scene(**changes).requires_grad_(False)


def exported(scene: LPGSGaussians, back_end: str, precision: str, folder) -> list[np.ndarray]:
    """What the file says of `TREES`."""
    for package in ("optimum", *back_end_module(back_end).PACKAGES):
        pytest.importorskip(package, reason="needs the extra 'export'")
    pipeline, module = LPGSPipeline(scene), back_end_module(back_end, precision)
    contract, networks = EXPORT.contract(pipeline), EXPORT.modules(pipeline)
    rows = rehearse(EXPORT, pipeline, contract, networks, precision in module.CALIBRATED)["trees"]
    (component,) = contract.components
    job = ExportJob(networks["trees"], component, precision, dummy_inputs(component), rows.calibration)
    module.export(job, folder / "trees")
    run = module.load(folder / "trees", component)
    pieces = np.array_split(np.array(TREES, np.int32), len(TREES) if module.MAX_BATCH else 1)
    return [np.concatenate(values) for values in zip(*(run(piece) for piece in pieces), strict=True)]


def by_hand(scene: LPGSGaussians) -> list[np.ndarray]:
    trees = [tree_by_hand(scene, tree) for tree in TREES]
    return [np.stack([[node[name] for node in tree] for tree in trees]) for name in NAMES]


def eager(scene: LPGSGaussians) -> list[np.ndarray]:
    return [value.numpy() for value in scene(scene.parent_means[TREES], scene.parent_log_scales[TREES])]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"children_per_parent": 0, "attention": False, "contraction": "box", "mlp_distance": False},
        {"children_per_parent": 1, "encoding": "frequency", "sh_degree": 3, "mlp_position": False},
    ],
    ids=str,
)
def test_every_kind_of_scene_is_that_of_each_tree_by_hand(tmp_path, changes):
    scene = make_scene(**HASHED, **changes)
    for found, hand, own in zip(exported(scene, "onnx", "fp32", tmp_path), by_hand(scene), eager(scene), strict=True):
        assert found.dtype == np.float32 and found.shape == hand.shape
        np.testing.assert_allclose(found, hand, atol=2e-5, rtol=2e-5)
        np.testing.assert_allclose(found, own, atol=2e-5, rtol=2e-5)


def test_executorch_says_the_same_of_each_tree(tmp_path):
    scene = make_scene(**ONE_LEVEL, children_per_parent=1, attention=False)
    for found, hand in zip(exported(scene, "executorch", "fp32", tmp_path), by_hand(scene), strict=True):
        assert found.dtype == np.float32 and found.shape == hand.shape
        np.testing.assert_allclose(found, hand, atol=2e-5, rtol=2e-5)


def test_half_precision_finds_cells_that_it_could_not_tell_apart(tmp_path):
    scene = make_scene(**ONE_LEVEL | {"hash_log2_size": 12, "hash_base_resolution": 2048, "hash_max_resolution": 2048})
    for ours, theirs in zip(exported(scene, "onnx", "fp16", tmp_path), by_hand(scene), strict=True):
        assert np.linalg.norm(ours - theirs) < 5e-3 * np.linalg.norm(theirs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_repository(LPGSPipeline(make_scene(**HASHED), circle=CIRCLE), tmp_path_factory.mktemp("own") / "mine")


def test_a_bundle_is_a_scene(folder, tmp_path):
    pytest.importorskip("optimum", reason="needs the extra 'export'")
    bundle = export_pipeline("lpgs", str(folder), "onnx", "int8", tmp_path / "bundle")
    again, own = load_bundle(bundle), LPGSPipeline.from_pretrained(folder)
    assert again.config.circle == {**CIRCLE, "center": (0.0, 0.0, 0.0)}
    unpacked, read = again.gaussians().tensors(), read_source(bundle).tensors()
    for name, value in own.gaussians().tensors().items():
        assert torch.equal(unpacked[name], read[name])
        assert (unpacked[name] - value).norm() < 0.05 * value.norm(), name
        if name in ("means", "log_scales"):
            assert torch.equal(unpacked[name][:120], value[:120]), "parents are as they are stored"
    seen, wanted = (one(num_frames=2, height=24, width=24, output_type="pt").images for one in (again, own))
    assert (seen - wanted).abs().mean() < 0.01 and seen.std() > 0.05
    again.to_ply(tmp_path / "scene.ply")
    assert len(read_source(tmp_path / "scene.ply")) == 360
    for write in (lambda: again.to_container(tmp_path / "scene.lpgs"), again.storage_report):
        with pytest.raises(
            ValueError, match="scene must be LPGSGaussians to be encoded, not an exported one: save its"
        ):
            write()
    assert not (tmp_path / "scene.lpgs").exists()
    with pytest.raises(ValueError, match="LPGSPipeline draws no texts, it shows one scene: use `pocket render`"):
        again.prompt_arguments("a red cube")
    assert "`pocket render THIS_FOLDER --output frames`" in (bundle / "README.md").read_text()
    with pytest.raises(ValueError, match=r"level must be 0, not 1"):
        read_source(bundle, level=1)


def test_a_rehearsal_meets_every_tree_before_one_again():
    for parents in (1, 2, 7, 120):
        pipeline = LPGSPipeline(make_scene(num_parents=parents))
        rows = EXPORT.rehearse(pipeline, range(parents))
        assert len(np.unique(rows, axis=0)) == parents


def test_the_loop_is_the_way_from_numbers_to_colors():
    pipeline = LPGSPipeline(make_scene(), circle=CIRCLE)
    contract = EXPORT.contract(pipeline)
    for words in ("0 .. 119", "a tree of three Gaussians", "360 Gaussians", "k = 0 .. 3"):
        assert words in contract.loop
    circle = {**CIRCLE, "center": (0.0, 0.0, 0.0)}
    assert contract.constants == {"num_parents": 120, "gaussians_per_parent": 3, "sh_degree": 1, "circle": circle}
