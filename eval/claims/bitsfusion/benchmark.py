"""What the project claims of BitsFusion, measured: sizes and costs at paper scale, rivals, quality of nano models."""

from ...benchmark import Benchmark
from .costs import measure_rates, measure_unet_costs
from .exported import measure_exported
from .ladder import measure_ladder
from .pictures import measure_pictures
from .rivals import measure_rival_costs, measure_rivals
from .separable import measure_separable
from .settings import Settings
from .size import measure_size

BENCHMARK = Benchmark(
    "bitsfusion",
    Settings(),
    {
        "unetcosts": measure_unet_costs,
        "rates": measure_rates,
        "size": measure_size,
        "rivals": measure_rivals,
        "rivalcosts": measure_rival_costs,
        "pictures": measure_pictures,
        "ladder": measure_ladder,
        "separable": measure_separable,
        "exported": measure_exported,
    },
)
