from itertools import islice

import pytest
import torch
from PIL import Image

from pocket_diffusers.eval.claims.snapgen import benchmark
from pocket_diffusers.eval.claims.snapgen.benchmark import Settings, run
from pocket_diffusers.eval.claims.snapgen.drawing import load_nano
from pocket_diffusers.eval.results import RESULTS, read_rows
from pocket_diffusers.eval.scores.retrieval import world_records
from pocket_diffusers.training.datasets.pocketworld.descriptions import TAGS

COMMITTED = RESULTS / "snapgen.json"

# Every row that must be measured: its id with its target and whether more is better.
PROMISED = {
    "unet-parameters": (pytest.approx(379, rel=0.0031), "lower"),
    "unet-imagenet-parameters": (pytest.approx(372, rel=0.0031), "lower"),
    "decoder-parameters": (pytest.approx(1.38, rel=0.011), "lower"),
    "decoder-reduction": (35.5, "higher"),
    "unet-parameters-sd15": (None, "lower"),
    "unet-parameters-sdxl": (None, "lower"),
    "unet-operations-sd15": (None, "lower"),
    "unet-operations-sdxl": (None, "lower"),
    "decoder-operations-512": (None, "lower"),
    "decoder-operations-1024": (None, "lower"),
    "decoder-operations-reduction-512": (30, "higher"),
    "decoder-operations-reduction-1024": (30, "higher"),
    "unet-step-sd15": (None, "lower"),
    "unet-step-sdxl": (None, "lower"),
    "unet-memory-sd15": (None, "lower"),
    "unet-memory-sdxl": (None, "lower"),
    "decoder-seconds-512": (None, "lower"),
    "decoder-seconds-1024": (None, "lower"),
    "decoder-memory-512": (None, "lower"),
    "decoder-memory-1024": (None, "lower"),
    "decoder-speedup-512": (10, "higher"),
    "decoder-speedup-1024": (10, "higher"),
    "decoder-tiny-speedup-512": (1, "higher"),
    "decoder-tiny-speedup-1024": (1, "higher"),
    "clip-nano-image-to-text": (0.9, "higher"),
    "clip-nano-text-to-image": (0.9, "higher"),
    "clip-nano-judge-image-to-text": (0.9, "higher"),
    "clip-nano-judge-text-to-image": (0.9, "higher"),
    "judge-seen-pairs": (0.9, "higher"),
    "judge-held-out-pairs": (None, "higher"),
    "judge-ground-truth": (None, "higher"),
    "autoencoder-psnr": (None, "higher"),
    "pocketworld-rendering": (500, "higher"),
    "pocketworld-records": (250, "higher"),
    "exported-onnx-fp32-seen-pairs": (None, "higher"),
    "exported-onnx-int8-seen-pairs": (None, "higher"),
    "exported-onnx-int8-bytes": (None, "lower"),
    "exported-executorch-fp32-seen-pairs": (None, "higher"),
    "exported-executorch-int8-seen-pairs": (None, "higher"),
    "exported-executorch-int8-bytes": (None, "lower"),
    "geneval-overall": (None, "higher"),
    "geneval-share-of-truth": (None, "higher"),
    **{f"geneval-{tag.replace('_', '-')}": (None, "higher") for tag in TAGS},
}
LIGHT = ["parameters", "retrieval", "autoencoder", "naming"]
HEAVY = ["rendering", "loading"]


@pytest.fixture(scope="module")
def settings(checkpoints):
    return Settings(
        checkpoints=checkpoints, groups=1, group_size=6, pictures_a_pair=1, true_pictures=4, reconstructions=6,
        world_pictures=24, world_repeats=2, world_size=16,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(settings, tmp_path_factory):
    output = tmp_path_factory.mktemp("output")
    return {row.id: row for row in run(LIGHT, output, settings)}, output


def decoder_by_hand() -> int:
    """The decoder of the paper's size, added up layer by layer."""
    total, width = 16 * 352 * 9 + 352, 352
    for stage in (352, 128, 64, 32):
        for _ in range(2):
            hidden = 2 * stage
            norms = 2 * width + 2 * hidden
            depthwise, pointwise = 9 * (width + hidden), width * hidden + hidden * stage
            total += norms + depthwise + pointwise + (width * stage if width != stage else 0)
            width = stage
    return total + 2 * 32 + 32 * 3 * 9 + 3


def test_parameter_rows_are_the_counts_made_otherwise(measured):
    rows, _ = measured
    sd3 = 49_490_179 + 12 * 512 * 9  # Stable Diffusion 1's decoder, with 16 latent channels in place of 4
    assert rows["decoder-parameters"].measured == pytest.approx(decoder_by_hand() / 1e6, rel=1e-5)
    assert rows["decoder-parameters"].rival_measured == pytest.approx(sd3 / 1e6, rel=1e-5)
    assert rows["decoder-parameters"].ratio == pytest.approx(35.91, abs=0.01)
    assert rows["decoder-reduction"].measured == pytest.approx(sd3 / decoder_by_hand(), rel=1e-5)
    unet, imagenet = rows["unet-parameters"].measured, rows["unet-imagenet-parameters"].measured
    assert (unet, imagenet) == (pytest.approx(379.0, abs=0.05), pytest.approx(372.2, abs=0.05))
    text_width = 34 * 2 * 64 * (2304 - 768)  # keys and values of 34 cross-attentions with one head
    latents = (16 - 4) * 256 * 9 * 2 + (16 - 4)  # first and last convolution
    assert unet - imagenet == pytest.approx((text_width + latents) / 1e6, abs=2e-3)
    # 859.52 M and 2567.46 M are what diffusers' own checkpoints have.
    assert rows["unet-parameters-sd15"].rival_measured == pytest.approx(859.521, abs=1e-3)
    assert rows["unet-parameters-sdxl"].rival_measured == pytest.approx(2567.464, abs=1e-2)
    for row in (rows["unet-parameters"], rows["unet-imagenet-parameters"], rows["decoder-parameters"]):
        assert row.passed and row.size == "paper" and row.hardware is None
        assert row.measured == pytest.approx(row.published, rel=0.01 if "decoder" in row.id else 0.003)


def test_rows_are_what_was_promised_and_are_written(measured):
    rows, output = measured
    assert read_rows(output / "snapgen.json") == list(rows.values())
    for name, row in rows.items():
        assert (row.target, row.better) == PROMISED[name]
        assert row.command.startswith(f"{benchmark.COMMAND} --only ")
    timed = ("pocketworld", "unet-step", "unet-memory", "decoder-seconds", "decoder-memory", "decoder-speedup")
    timed += ("decoder-tiny-speedup", "unet-operations", "decoder-operations", "exported", "geneval")
    assert {name for name in PROMISED if not name.startswith(timed)} == set(rows)
    assert [rows[f"judge-{kind}"].n for kind in ("seen-pairs", "held-out-pairs", "ground-truth")] == [40, 10, 4]
    assert rows["clip-nano-image-to-text"].n == 6 and rows["autoencoder-psnr"].n == 6
    assert rows["judge-seen-pairs"].rival_measured == rows["judge-ground-truth"].measured


def test_autoencoder_row_is_the_psnr_of_reconstructions(measured, settings):
    rows, _ = measured
    vae = load_nano(settings).vae
    values = []
    for record in islice(world_records("test", 16), 6):
        pixels = torch.from_numpy(record.rgb).permute(2, 0, 1)[None].double()
        with torch.no_grad():
            output = vae.decode(vae.encode(pixels.float() / 127.5 - 1).latent_dist.mode()).sample
        error = ((output.clamp(-1, 1).double() + 1) * 127.5 - pixels).square().mean()
        values.append(10 * torch.log10(255**2 / error).item())
    assert rows["autoencoder-psnr"].measured == pytest.approx(sum(values) / 6, abs=1e-3)


def test_the_sheet_of_pairs_is_drawn(measured):
    with Image.open(measured[1] / "snapgen.png") as sheet:
        assert sheet.width > 5 * 128 and sheet.height > 10 * 128
    assert sorted(path.name for path in measured[1].iterdir()) == ["snapgen.json", "snapgen.png"]


def test_speeds_are_measured_without_touching_the_cache(settings, tmp_path):
    import datasets

    cache = datasets.config.HF_DATASETS_CACHE
    rows = run(HEAVY, tmp_path, settings)
    assert cache == datasets.config.HF_DATASETS_CACHE
    assert [row.id for row in rows] == ["pocketworld-rendering", "pocketworld-records"]
    for row in rows:
        assert (row.target, row.better) == PROMISED[row.id]
        assert row.n == 48 and row.measured > 0 and "threads" in row.hardware
    assert rows[1].unit == "records/s"


def test_a_partial_run_keeps_the_other_rows(settings, tmp_path):
    run(["parameters"], tmp_path, settings)
    run(["retrieval"], tmp_path, settings)
    assert len(read_rows(tmp_path / "snapgen.json")) == 10


def test_what_cannot_be_measured_is_said_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="only is 'speed'; it must be one of rendering, loading"):
        run(["speed"], tmp_path / "out")
    nowhere = Settings(checkpoints=tmp_path)
    for name in ("retrieval", "naming", "autoencoder"):
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            run([name], tmp_path / "out", nowhere)
    assert not (tmp_path / "out").exists()


def test_every_promised_number_is_committed():
    rows = {row.id: row for row in read_rows(COMMITTED)}
    assert set(rows) == set(PROMISED)
    assert all((row.target, row.better) == PROMISED[name] for name, row in rows.items())
    assert rows["clip-nano-image-to-text"].n >= 500 and rows["judge-seen-pairs"].n >= 400
