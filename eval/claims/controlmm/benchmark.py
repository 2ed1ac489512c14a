"""What the project claims of ControlMM, measured: size and speed at paper scale, quality and control of nano models."""

from ...benchmark import Benchmark
from .ablation import measure_ablation
from .control import measure_conditions, measure_control
from .costs import measure_scaling, measure_speed
from .parameters import measure_parameters
from .quality import measure_quality
from .settings import Settings

BENCHMARK = Benchmark(
    "controlmm",
    Settings(),
    {
        "speed": measure_speed,
        "scaling": measure_scaling,
        "parameters": measure_parameters,
        "quality": measure_quality,
        "control": measure_control,
        "conditions": measure_conditions,
        "ablation": measure_ablation,
    },
)
