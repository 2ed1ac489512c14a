"""The tiny components of SnapGen, for tests of what trains them."""

from collections.abc import Callable

import pytest
from tiny_snapgen import make_components


@pytest.fixture(scope="session")
def tiny_components() -> Callable[..., dict]:
    """`tiny_components("lg3")` makes every component by name, new each time."""
    return make_components
