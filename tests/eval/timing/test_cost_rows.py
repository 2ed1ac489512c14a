import pytest

from pocket_diffusers.eval.benchmark import Benchmark, Run
from pocket_diffusers.eval.timing.contest import Contender
from pocket_diffusers.eval.timing.cost_rows import CostClaim, cost_rows, measure_costs, memory_panel, seconds_panel

SECONDS = {"ours": (1.0, 2.0, 1.0), "rival": (30.0, 44.0, 20.0), "other": (1.5, 1.0, 2.0)}


@pytest.fixture
def run(tmp_path):
    return Run(Benchmark("toy", None, {}), "cost", tmp_path)


@pytest.fixture
def costs(contest, run):
    def found(errors=()):
        contest(lambda one: SECONDS[one.name], errors)
        return measure_costs(run, [Contender(name=name, build="a:b") for name in SECONDS], 3, 2, part="small")

    return found


def claim(quantity, rival=None, **options):
    return CostClaim(id="id", claim="A claim.", quantity=quantity, rival=rival, **options)


def test_contenders_are_asked_for_as_the_settings_say(contest, run):
    asked = contest(lambda one: (1.0,))
    contenders = [Contender(name="ours", build="a:b")]
    assert measure_costs(run, contenders, 3, 2, part="small").threads == 2
    assert asked == [(contenders, 3, 2, run.record_path("small"))]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (claim("seconds", "rival"), ("s", "lower", 1.0, 30.0, (1.0, 2.0), 3)),
        (claim("seconds"), ("s", "lower", 1.0, None, (1.0, 2.0), 3)),
        (claim("seconds", contender="other"), ("s", "lower", 1.5, None, (1.0, 2.0), 3)),
        (claim("memory", "rival"), ("MB", "lower", 400.0, 500.0, None, 1)),
        (claim("speedup", "rival", target=10.0), ("times", "higher", 22.0, None, (20.0, 30.0), 3)),
        (claim("speedup", "other", target=1.0), ("times", "higher", 1.5, None, (0.5, 2.0), 3)),
        (claim("rate", "rival", amount=4), ("pictures/s", "higher", 4.0, 4 / 30, (2.0, 4.0), 3)),
        (claim("rate", amount=4, rate_unit="GB/s"), ("GB/s", "higher", 4.0, None, (2.0, 4.0), 3)),
        (claim("slowdown", "other", target=1.1), ("times", "lower", 2 / 3, None, (0.5, 2.0), 3)),
        (claim("memory share", "rival", target=0.9), ("times", "lower", 350 / 450, None, None, 1)),
    ],
)
def test_quantities(costs, run, asked, expected):
    """Speed-ups are medians of the rounds' own ratios: of 30, 22 and 20, and of 1.5, 0.5 and 2."""
    (row,) = cost_rows(run, costs(), [asked])
    rival = pytest.approx(expected[3], rel=1e-5) if expected[3] else None
    assert (row.unit, row.better, row.measured, row.rival_measured, row.interval, row.n) == (
        *expected[:2], pytest.approx(expected[2], rel=1e-5), rival, *expected[4:],
    )  # fmt: skip
    assert (row.rival, row.target) == (asked.rival, asked.target)
    assert row.size == "paper" and "2 threads" in row.hardware and row.command == "pocket eval toy --only cost"
    assert row.date == "2025-01-31", "of the contest, however much later its rows are made"


QUANTITIES = ("seconds", "memory", "rate", "speedup", "slowdown", "memory share")


def test_a_rival_that_failed_is_named(costs, run):
    rows = list(cost_rows(run, costs(["rival"]), [claim(what, "rival", target=2.0) for what in QUANTITIES]))
    assert {(row.rival, row.rival_measured, row.ratio) for row in rows} == {("rival, which failed", None, None)}
    assert {row.claim for row in rows} == {"A claim. rival failed: it broke."}
    assert [row.measured for row in rows] == [1.0, 400.0, 1.0, None, None, None], "without it there is no ratio"
    assert rows[-1].passed is False and rows[-1].n is None


def test_ours_that_failed_has_rows_without_a_number(costs, run):
    rows = list(cost_rows(run, costs(["ours"]), [claim(what, "rival", target=2.0) for what in QUANTITIES]))
    assert {(row.measured, row.interval, row.n, row.ratio) for row in rows} == {(None, None, None, None)}
    assert {row.claim for row in rows} == {"A claim. ours failed: it broke."}
    assert [row.rival_measured for row in rows] == [30.0, 500.0, pytest.approx(1 / 30, rel=1e-5), None, None, None]
    assert not any(row.passed for row in rows)
    assert next(cost_rows(run, costs(["ours"]), [claim("seconds")])).rival is None


def test_a_crash_of_either_is_a_row(run):
    """Real processes: one contender runs, the other kills itself as the system does when memory ends."""
    build = "pocket_diffusers_contenders:nothing"
    contenders = [
        Contender(name="ours", build="os:abort"),
        Contender(name="rival", build=build),
    ]
    costs = measure_costs(run, contenders, 2, 1)
    (row,) = cost_rows(run, costs, [claim("memory", "rival")])
    assert row.measured is None and row.claim.startswith("A claim. ours failed: its process ended with status -6")
    assert "rival failed: " in row.claim and "pocket_diffusers_contenders" in row.claim


def test_panels_have_a_bar_for_each_contender(costs):
    found = costs(["other"])
    bars = seconds_panel("ms", found, scale=1000).bars
    assert [(bar.name, bar.value) for bar in bars] == [("ours", 1000), ("rival", 30000), ("other", None)]
    assert bars[0].interval == (1000, 2000) and bars[2].interval is None
    assert [bar.value for bar in memory_panel(found).bars] == [400, 500, None]
