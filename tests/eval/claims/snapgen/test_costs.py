from dataclasses import replace

import pytest
from PIL import Image

from pocket_diffusers.eval.claims.snapgen import costs
from pocket_diffusers.eval.claims.snapgen.benchmark import BENCHMARK

DECODERS = {"SnapGen": (1.0, 2.0, 1.0), "Stable Diffusion 3": (30.0, 44.0, 20.0), "AutoencoderTiny": (1.5, 1.0, 2.0)}


def measure(name, output):
    settings = replace(BENCHMARK.settings, repeats=3, threads=1, latent_size=8, pixels=(64,))
    return {row.id: row for row in BENCHMARK.measure(name, output, settings)}


def test_decoding_rows_are_ratios_of_rounds(contest, tmp_path):
    asked = contest(lambda one: DECODERS[one.name])
    rows = measure("decoding", tmp_path)
    names = ("seconds", "memory", "speedup", "tiny-speedup", "tiny-memory")
    assert set(rows) == {f"decoder-{name}-64" for name in names}
    lost = rows["decoder-tiny-memory-64"]
    assert (lost.measured, lost.rival, lost.rival_measured) == (700, "AutoencoderTiny", 1500)
    assert rows["decoder-seconds-64"].measured == 1.0 and rows["decoder-seconds-64"].rival_measured == 30.0
    assert rows["decoder-speedup-64"].measured == 22.0 and rows["decoder-speedup-64"].target == 10
    assert rows["decoder-tiny-speedup-64"].measured == 1.5 and rows["decoder-tiny-speedup-64"].target == 1
    assert rows["decoder-memory-64"].ratio == pytest.approx(len("Stable Diffusion 3") / len("SnapGen"), rel=1e-3)
    ((contenders, repeats, threads, output),) = asked
    assert [one.arguments for one in contenders] == [{"name": name, "pixels": 64} for name in DECODERS]
    assert (repeats, threads, output.name) == (3, 1, "decoding-64.json")
    with Image.open(tmp_path / "snapgen-decoding.png") as picture:
        assert picture.width > 500
    assert (tmp_path / "snapgen-decoding.png").stat().st_size < 200_000


def test_step_rows_and_their_picture(contest, tmp_path):
    contest(lambda one: ({"SnapGen": 1.0, "Stable Diffusion 1.5": 3.0, "SDXL": 8.0}[one.name],) * 3)
    rows = measure("steps", tmp_path)
    assert {row.id: row.ratio for row in rows.values() if row.unit == "s"} == {
        "unet-step-sd15": 3.0,
        "unet-step-sdxl": 8.0,
    }
    assert {row.rival for row in rows.values()} == {"Stable Diffusion 1.5", "SDXL"} and len(rows) == 4
    assert (tmp_path / "snapgen-steps.png").is_file()


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


def test_parameter_rows_are_the_counts_made_otherwise(tmp_path):
    rows = measure("parameters", tmp_path)
    sd3 = 49_490_179 + 12 * 512 * 9  # Stable Diffusion 1's decoder, with 16 latent channels in place of 4
    assert rows["decoder-parameters"].measured == pytest.approx(decoder_by_hand() / 1e6, rel=1e-5)
    assert rows["decoder-parameters"].rival_measured == pytest.approx(sd3 / 1e6, rel=1e-5)
    assert rows["decoder-parameters"].ratio is None, "within a band fewer is not better"
    tiny = 16 * 64 * 9 + 64 + 10 * 3 * (64 * 64 * 9 + 64) + 3 * 64 * 64 * 9 + 64 * 3 * 9 + 3
    assert rows["decoder-parameters-tiny"].rival_measured == pytest.approx(tiny / 1e6, rel=1e-5)
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
        assert row.passed and row.size == "paper" and row.hardware is None and row.better == "within"
        tolerance = 0.01 if "decoder" in row.id else 0.003
        assert row.target == pytest.approx((row.published * (1 - tolerance), row.published * (1 + tolerance)))
        assert row.measured == pytest.approx(row.published, rel=0.01 if "decoder" in row.id else 0.003)


def test_operations_of_the_decoders():
    ours, sd3, tiny = (costs.decoder_operations(name, 512) for name in costs.DECODERS)
    assert ours == operations_by_hand((352, 128, 64, 32), 64)
    assert tiny == tiny_by_hand(64)
    assert sd3 / ours > 50 and ours < tiny


def operations_by_hand(widths: tuple[int, ...], side: int) -> int:
    total, width = 2 * 16 * widths[0] * 9 * side**2, widths[0]
    for number, stage in enumerate(widths):
        pixels = (side * 2**number) ** 2
        for _ in range(2):
            shortcut = width * stage if width != stage else 0
            total += 2 * pixels * (9 * (width + 2 * stage) + width * 2 * stage + 2 * stage * stage + shortcut)
            width = stage
    return total + 2 * pixels * width * 3 * 9


def tiny_by_hand(side: int) -> int:
    dense = 64 * 64 * 9
    total = 2 * side**2 * 16 * 64 * 9
    for number, blocks in enumerate((3, 3, 3, 1)):
        total += 2 * (side * 2**number) ** 2 * 3 * blocks * dense
    total += sum(2 * (side * 2**number) ** 2 * dense for number in (1, 2, 3))  # after each doubling
    return total + 2 * (8 * side) ** 2 * 64 * 3 * 9
