"""The tiny components of the pipeline's own tests, for tests of what trains them."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_components() -> Callable[..., dict]:
    """`tiny_components("lg3")` makes every component by name, new each time."""
    path = Path(__file__).parents[1] / "pipelines" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_components", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_components
