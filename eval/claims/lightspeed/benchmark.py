"""What the project claims of LightSpeed, measured: how quickly a light field is learned, what it costs and weighs."""

from ...benchmark import Benchmark
from .contest import measure_contest
from .settings import Settings

BENCHMARK = Benchmark("lightspeed", Settings(), {"contest": measure_contest})
"""How much is measured of LightSpeed."""
