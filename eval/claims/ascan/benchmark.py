"""What the project claims of AsCAN, measured: sizes and speed at full size, what nano models see, judge and draw."""

from ...benchmark import Benchmark
from .ablation import measure_ablation
from .costs import measure_operations, measure_parameters, measure_resolution, measure_throughput
from .exported import measure_exported
from .pictures import measure_generation, measure_geneval
from .recognition import measure_digits, measure_judge
from .settings import Settings

BENCHMARK = Benchmark(
    "ascan",
    Settings(),
    {
        "throughput": measure_throughput,
        "resolution": measure_resolution,
        "parameters": measure_parameters,
        "operations": measure_operations,
        "digits": measure_digits,
        "judge": measure_judge,
        "geneval": measure_geneval,
        "generation": measure_generation,
        "exported": measure_exported,
        "ablation": measure_ablation,
    },
)
