import pytest

from pocket_diffusers.eval.results import RESULTS, read_rows
from pocket_diffusers.training.datasets.pocketworld.descriptions import TAGS

# Every id with its target and whether more is better.
PROMISED = {
    "unet-parameters": (pytest.approx((379 * 0.997, 379 * 1.003)), "within"),
    "unet-imagenet-parameters": (pytest.approx((372 * 0.997, 372 * 1.003)), "within"),
    "decoder-parameters": (pytest.approx((1.38 * 0.99, 1.38 * 1.01)), "within"),
    "decoder-parameters-tiny": (None, "lower"),
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
    "decoder-tiny-memory-512": (None, "lower"),
    "decoder-tiny-memory-1024": (None, "lower"),
    "judge-seen-pairs": (0.9, "higher"),
    "judge-held-out-pairs": (None, "higher"),
    "judge-ground-truth": (None, "higher"),
    "autoencoder-psnr": (None, "higher"),
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


def test_every_promised_number_is_committed():
    rows = {row.id: row for row in read_rows(RESULTS / "snapgen.json")}
    assert set(rows) == set(PROMISED)
    assert all((row.target, row.better) == PROMISED[name] for name, row in rows.items())
    assert rows["judge-seen-pairs"].n >= 400
