"""What the project claims of PocketWorld, of its encoders and of GenEval's rules, measured."""

from ...benchmark import Benchmark
from .encoders import measure_retrieval_of_encoders
from .raters import measure_raters
from .settings import Settings
from .speed import measure_loading, measure_rendering

BENCHMARK = Benchmark(
    "world",
    Settings(),
    {
        "rendering": measure_rendering,
        "loading": measure_loading,
        "retrieval": measure_retrieval_of_encoders,
        "raters": measure_raters,
    },
)
