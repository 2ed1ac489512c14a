"""What the project claims of LightSpeed, measured: how quickly a light field is learned, what it costs and weighs."""

from ...benchmark import Benchmark
from .bundle import measure_bundle
from .contest import measure_contest
from .costs import measure_latency, measure_scaling
from .nano import measure_exported, measure_nano
from .orbit import measure_orbit
from .parameters import measure_parameters
from .settings import Settings
from .teacher import measure_teacher

BENCHMARK = Benchmark(
    "lightspeed",
    Settings(),
    {
        "latency": measure_latency,
        "scaling": measure_scaling,
        "parameters": measure_parameters,
        "bundle": measure_bundle,
        "contest": measure_contest,
        "orbit": measure_orbit,
        "nano": measure_nano,
        "teacher": measure_teacher,
        "exported": measure_exported,
    },
)
"""How much is measured of LightSpeed."""
