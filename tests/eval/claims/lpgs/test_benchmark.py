import pytest

from pocket_diffusers.eval.results import RESULTS, read_rows

FORMATS = ("spz", "sog", "compressed-ply")
FITS = (("biker", 300_000), ("biker", 897_000), ("playbot", 150_000))
PARTS = ("attention", "contraction", "tree-manipulation", "hash-grid")

# Every id with its target and whether more is better.
PROMISED = {
    "rasterizer-compiled-forward": (0.06, "lower"),
    "rasterizer-compiled-backward": (0.25, "lower"),
    "rasterizer-torch-forward": (1, "lower"),
    "rasterizer-torch-backward": (4, "lower"),
    **{f"rasterizer-memory-{form}-{passes}": (target, "lower")
       for form, target in (("compiled", None), ("torch", 1000)) for passes in ("forward", "backward")},
    **{f"scaling-gaussians-{count}": (None, "lower") for count in (10_000, 30_000, 100_000, 300_000, 500_000)},
    **{f"scaling-side-{side}": (None, "lower") for side in (128, 256, 512, 1024)},
    "parameters-c1": (None, "lower"),
    "parameters-c2": (None, "lower"),
    "parameters-c3": (pytest.approx((41_580, 42_420)), "within"),
    "parameters-garden": (None, "lower"),
    **{f"curve-{scene}-{name}-{what}": (None, better) for scene in ("biker", "playbot") for name in FORMATS
       for what, better in (("bytes", "lower"), ("psnr", "higher"))},
    **{f"curve-{scene}-{size}-{what}": (None, better) for scene, size in FITS
       for what, better in (("psnr", "higher"), ("over-pruned", "higher"), ("splatz", "higher"), ("ssim", "higher"),
                            ("encode", "lower"), ("decode", "lower"), ("renders", "higher"))},
    **{f"curve-{scene}-{size}-bytes": (size, "lower") for scene, size in FITS},
    "curve-biker-897000-psnr": (29, "higher"),
    "curve-biker-897000-over-pruned": (2, "higher"),
    "pictures-psnr": (None, "higher"),
    "pictures-ssim": (None, "higher"),
    "pictures-difference": (-0.3, "higher"),
    "pictures-share-ply": (0.1, "lower"),
    "pictures-share-spz": (None, "lower"),
    "pictures-bytes": (None, "lower"),
    "ablation-full": (None, "higher"),
    **{f"ablation-without-{part}": (None, "lower") for part in PARTS},
    "nano-psnr": (None, "higher"),
    "nano-ssim": (None, "higher"),
    "nano-bytes": (None, "lower"),
    "nano-parents": (None, "lower"),
    **{f"exported-{runtime}-{precision}-psnr": (None, "higher") for runtime in ("onnx", "executorch")
       for precision in ("fp32", "int8")},
    "exported-onnx-int8-bytes": (None, "lower"),
    "exported-executorch-int8-bytes": (None, "lower"),
}  # fmt: skip


def test_every_promised_number_is_committed():
    rows = {row.id: row for row in read_rows(RESULTS / "lpgs.json")}
    assert set(rows) == set(PROMISED)
    assert all((row.target, row.better) == PROMISED[name] for name, row in rows.items())
    assert rows["curve-biker-897000-psnr"].n >= 20 and rows["pictures-difference"].n == 2
    assert {rows[f"ablation-without-{part}"].published for part in PARTS} == {None, -0.8, -0.5}
