from dataclasses import dataclass

import pytest
from PIL import Image

from pocket_diffusers.eval.benchmark import record_path
from pocket_diffusers.eval.claims.snapgen import costs
from pocket_diffusers.eval.timing.contest import Measurement


@dataclass
class Settings:
    repeats: int = 3
    threads: int = 1
    latent_size: int = 8
    pixels: tuple[int, ...] = (64,)


@pytest.fixture
def measured(monkeypatch):
    """Replaces the runner: gives each contender the seconds and the error that a test asks for."""
    asked = []

    def prepare(seconds, errors=()):
        def run(contenders, repeats, threads, output):
            asked.append((contenders, repeats, threads, output))
            return [
                Measurement(
                    name=one.name, build=one.build, arguments=one.arguments, error="it broke" if one.name in errors
                    else None, seconds=() if one.name in errors else seconds[one.name],
                    peak_memory_mb=100.0 * len(one.name),
                )
                for one in contenders
            ]  # fmt: skip

        monkeypatch.setattr(costs, "run_contenders", run)
        return asked

    return prepare


DECODERS = {"SnapGen": (1.0, 2.0, 1.0), "Stable Diffusion 3": (30.0, 44.0, 20.0), "AutoencoderTiny": (1.5, 1.0, 2.0)}


def test_decoding_rows_are_ratios_of_rounds(measured, tmp_path):
    asked = measured(DECODERS)
    rows = {row.id: row for row in costs.measure_decoding(Settings(), tmp_path)}
    assert set(rows) == {f"decoder-{name}-64" for name in ("seconds", "memory", "speedup", "tiny-speedup")}
    assert rows["decoder-seconds-64"].measured == 1.0 and rows["decoder-seconds-64"].rival_measured == 30.0
    assert rows["decoder-speedup-64"].measured == 22.0, "the median of 30, 22 and 20"
    assert rows["decoder-tiny-speedup-64"].measured == 1.5, "the median of 1.5, 0.5 and 2"
    assert rows["decoder-memory-64"].ratio == pytest.approx(len("Stable Diffusion 3") / len("SnapGen"), rel=1e-3)
    for row in rows.values():
        assert row.size == "paper" and "1 threads" in row.hardware
        assert row.command == "pocket eval snapgen --only decoding"
    ((contenders, repeats, threads, output),) = asked
    assert [one.arguments for one in contenders] == [{"name": name, "pixels": 64} for name in DECODERS]
    assert (repeats, threads, output) == (3, 1, record_path(tmp_path, "snapgen", "decoding-64"))
    with Image.open(tmp_path / "snapgen-decoding.png") as picture:
        assert picture.width > 500
    assert (tmp_path / "snapgen-decoding.png").stat().st_size < 200_000


def test_a_rival_that_failed_is_named_and_ours_must_not(measured, tmp_path):
    measured(DECODERS, ["Stable Diffusion 3"])
    rows = {row.id: row for row in costs.measure_decoding(Settings(), tmp_path)}
    assert "decoder-speedup-64" not in rows and "decoder-tiny-speedup-64" in rows
    assert rows["decoder-seconds-64"].rival == "Stable Diffusion 3, which failed"
    assert rows["decoder-seconds-64"].rival_measured is None
    measured(DECODERS, ["SnapGen"])
    with pytest.raises(ValueError, match="SnapGen could not be measured for decoding-64: it broke"):
        list(costs.measure_decoding(Settings(), tmp_path))


def test_step_rows_and_their_picture(measured, tmp_path):
    measured({"SnapGen": (1.0,) * 3, "Stable Diffusion 1.5": (3.0,) * 3, "SDXL": (8.0,) * 3})
    rows = {row.id: row for row in costs.measure_steps(Settings(), tmp_path)}
    assert {row.id: row.ratio for row in rows.values() if row.unit == "s"} == {
        "unet-step-sd15": 3.0,
        "unet-step-sdxl": 8.0,
    }
    assert {row.rival for row in rows.values()} == {"Stable Diffusion 1.5", "SDXL"}
    assert (tmp_path / "snapgen-steps.png").is_file()


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
