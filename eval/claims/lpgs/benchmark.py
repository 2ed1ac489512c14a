"""What the project claims of LPGS, measured: its rasteriser, and scenes of few bytes beside other formats."""

from ...benchmark import Benchmark
from .costs import measure_parameters, measure_rasterizer, measure_scaling
from .curve import measure_curve
from .settings import Settings

BENCHMARK = Benchmark(
    "lpgs",
    Settings(),
    {
        "rasterizer": measure_rasterizer,
        "scaling": measure_scaling,
        "parameters": measure_parameters,
        "curve": measure_curve,
    },
)
