"""A scene from all around: divide and conquer beside a single slab, and beside splats of equal time and bytes."""

from collections.abc import Iterator

from ...benchmark import Run
from ...results import Row
from .orbit_fits import DIVIDED, SINGLE, SPLATS, Orbit, OrbitFit, orbit_fits
from .settings import Settings


def measure_orbit(settings: Settings, run: Run) -> Iterator[Row]:
    """PSNR and SSIM of held-out pictures by each, and how far divide and conquer is above the others."""
    fits = orbit_fits(settings, run.record_path())
    where = f"{Orbit(settings.orbit).words}, one thread"
    words = {name: _words(settings, fit) for name, fit in fits.items()}
    divided = fits[DIVIDED]
    for name, fit in fits.items():
        for axis, unit in (("psnr", "dB"), ("ssim", "SSIM")):
            yield run.row(
                f"orbit-{name}-{axis}", f"{words[name]}, shows pictures that it never saw ({axis.upper()}): {where}.",
                measured=getattr(fit, axis), unit=unit, n=settings.orbit.held_out, seed=settings.orbit.seed,
            )  # fmt: skip
    for name in (SINGLE, SPLATS):
        rival = fits[name]
        yield run.row(
            f"orbit-over-{name}", f"The PSNR of {words[DIVIDED]}, is so many dB above that of {words[name]}: {where}.",
            measured=divided.psnr - rival.psnr, unit="dB", n=settings.orbit.held_out, seed=settings.orbit.seed,
        )  # fmt: skip
        common = {"better": "lower", "rival": words[name]}
        yield run.row(
            f"orbit-seconds-{name}", f"{words[DIVIDED]}, learned for so many seconds of a CPU: {where}.",
            measured=divided.seconds, rival_measured=rival.seconds, unit="s", **common,
        )  # fmt: skip
        yield run.row(
            f"orbit-bytes-{name}", f"{words[DIVIDED]}, takes so many bytes: {where}.",
            measured=divided.bytes, rival_measured=rival.bytes, unit="bytes", hardware=None, **common,
        )  # fmt: skip


def _words(settings: Settings, fit: OrbitFit) -> str:
    if fit.name == DIVIDED:
        return (
            f"LightSpeed divided among {settings.orbit.sub_scenes} slabs, {fit.parts:,} parameters in half precision, "
            f"{fit.steps:,} steps"
        )
    if fit.name == SINGLE:
        return (
            f"LightSpeed in a single slab of level planes, whose ends hold 90 % of each coordinate of the rays that go "
            f"down and to which others are clamped, {fit.parts:,} parameters, {fit.steps:,} steps"
        )
    return (
        f"plain 3DGS by our rasteriser, as long a training and at most as many bytes, {fit.parts:,} splats as SPZ, "
        f"{fit.steps:,} steps"
    )
