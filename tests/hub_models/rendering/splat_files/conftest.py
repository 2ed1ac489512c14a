"""Splats for files: random ones, public ones, and files that are damaged in every way."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from damaged_files import damaged

from pocket_diffusers.hub_models.rendering.gaussians import Gaussians

SPLATS = Path(os.environ.get("POCKET_DATA", Path(__file__).parents[5] / "shared" / "data"), "splats")
HOSTILE_CASES = int(os.environ.get("POCKET_HOSTILE_CASES", "1000"))
CLEAR = (ValueError, FileNotFoundError)


def random_splats(count: int, degree: int = 0, seed: int = 0) -> Gaussians:
    """Values as those of a trained scene."""
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=draw) * 5,
        torch.rand(count, 3, generator=draw) * 8 - 8,
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw) * 3,
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw) * 0.3,
    )


@pytest.fixture
def splats() -> Callable[..., Gaussians]:
    return random_splats


@pytest.fixture
def public() -> Callable[[str], Path]:
    """Path of a public file below the splats, or a skip."""

    def find(name: str) -> Path:
        if not (SPLATS / name).exists():
            pytest.skip(f"{name} is not here: set POCKET_DATA to the folder that holds splats/{name}")
        return SPLATS / name

    return find


ODD = [None, True, -1, 0, 1.5, 10**30, 1e308, "", "meta.json", "x" * 300, [], {}, [None], [[]], [1e308] * 256, "NaN"]


def odd_versions(content: object) -> Iterator[object]:
    """A JSON value with each value in it replaced by each odd one, or left out."""
    if isinstance(content, dict | list):
        for key in list(content) if isinstance(content, dict) else range(min(len(content), 3)):
            for odd in odd_versions(content[key]):
                changed = content.copy()
                changed[key] = odd
                yield changed
            shorter = content.copy()
            del shorter[key]
            yield shorter
    yield from ODD


@pytest.fixture
def check_odd_versions() -> Callable[[dict, Callable[[bytes], object]], None]:
    """Reads each odd version of a JSON text, which is refused in one sentence or gives finite Gaussians."""

    def check(content: dict, read: Callable[[bytes], object]) -> None:
        for odd in odd_versions(content):
            try:
                read(json.dumps(odd).encode()).check_finite()
            except CLEAR as error:
                assert str(error).endswith(".") and "\n" not in str(error) and len(str(error)) < 500, str(error)

    return check


@pytest.fixture
def refuses() -> Callable[[Callable[[bytes], object], list[bytes]], int]:
    """Reads damaged files and returns how many were refused; all others must give finite Gaussians."""

    def check(read: Callable[[bytes], object], files: list[bytes], cases: int = HOSTILE_CASES) -> int:
        refused = 0
        draw = np.random.default_rng(0)
        for case in range(cases):
            data = damaged(files[case % len(files)], draw)
            try:
                read(data).check_finite()
            except CLEAR as error:
                assert str(error).endswith(".") and "\n" not in str(error) and len(str(error)) < 500, str(error)
                refused += 1
        print(f"{refused} of {cases} damaged files were refused")
        return refused

    return check
