import pytest

from pocket_diffusers.hub_models.layers.stage_grammar import check_stages


def test_strings_of_c_and_t_pass_as_they_are():
    assert check_stages(["CC", "CT", "T"], (8, 16, 32)) == ("CC", "CT", "T")


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (("CC", "CX"), "stages holds 'CX'; a stage is one or more letters C .* T"),
        (("CC", "ct"), "stages holds 'ct'"),
        (("CC", ""), "stages holds ''"),
        (("CC", "C T"), "stages holds 'C T'"),
        (("CC",), r"stages must be 2 strings, one for each of widths \[8, 16\].*not \('CC',\)"),
        (("C", "C", "C"), "stages must be 2 strings"),
        ("CT", "stages must be 2 strings.*not 'CT'"),
    ],
)
def test_what_is_no_network(stages, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_stages(stages, (8, 16))
    assert len(str(caught.value).splitlines()) == 1


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="down_stages holds 'A'"):
        check_stages(("A",), (8,), "down_stages")
