"""What the project claims of SnapGen, measured: sizes and speed at paper scale, quality of nano models."""

from ...benchmark import Benchmark
from .costs import measure_decoding, measure_operations, measure_parameters, measure_steps
from .exported import measure_exported
from .pictures import measure_autoencoder, measure_geneval, measure_naming
from .settings import Settings

BENCHMARK = Benchmark(
    "snapgen",
    Settings(),
    {
        "steps": measure_steps,
        "decoding": measure_decoding,
        "parameters": measure_parameters,
        "operations": measure_operations,
        "autoencoder": measure_autoencoder,
        "naming": measure_naming,
        "exported": measure_exported,
        "geneval": measure_geneval,
    },
)
