"""Tiny real components of a SnapGen pipeline."""

from collections.abc import Callable

import pytest
from tiny_snapgen import make_components, make_pipeline

from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline


@pytest.fixture(scope="session")
def components() -> Callable[..., dict]:
    return make_components


@pytest.fixture
def one_encoder() -> SnapGenPipeline:
    """CLIP-L alone, as the nano checkpoint has it."""
    return make_pipeline("l")
