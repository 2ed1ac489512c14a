"""What the project claims of LPGS, measured: its rasteriser, and scenes of few bytes beside other formats."""

from ...benchmark import Benchmark
from .costs import measure_parameters, measure_rasterizer, measure_scaling
from .curve import measure_curve
from .nano import measure_exported, measure_nano
from .pictures import measure_ablation, measure_pictures
from .settings import Settings

BENCHMARK = Benchmark(
    "lpgs",
    Settings(),
    {
        "rasterizer": measure_rasterizer,
        "scaling": measure_scaling,
        "parameters": measure_parameters,
        "curve": measure_curve,
        "pictures": measure_pictures,
        "ablation": measure_ablation,
        "nano": measure_nano,
        "exported": measure_exported,
    },
)
