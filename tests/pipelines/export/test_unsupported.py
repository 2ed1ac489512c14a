"""Operators are found in what the exporters really say."""

import pytest

from pocket_diffusers.pipelines.export.unsupported import unsupported


@pytest.mark.parametrize(
    ("text", "operator"),
    [
        ("No ONNX function found for <OpOverload(op='aten.special_bessel_j0', overload='default')>.", "aten.special_b"),
        ("Operator torch._ops.aten.linalg_eig.default is not Aten Canonical.", "aten.linalg_eig:"),
        ("PyTorch convert function for op 'fft_rfft' not implemented.", "fft_rfft"),
        ("Unsupported fx node alias, kind alias", "alias:"),
        ("something\nelse", "it (RuntimeError: something else)"),
    ],
)
def test_the_operator_is_named(text, operator):
    sentence = str(unsupported("unet", "ONNX", RuntimeError(text), "`--to executorch`"))
    assert sentence.startswith(f"unet cannot be exported to ONNX, which does not take {operator}")
    assert sentence.endswith("or use `--to executorch`.") and "\n" not in sentence


def test_the_first_cause_counts():
    try:
        try:
            raise KeyError("aten.erfinv.default")
        except KeyError as cause:
            raise RuntimeError("see aten.conv2d.default") from cause
    except RuntimeError as error:
        assert "does not take aten.erfinv:" in str(unsupported("unet", "ONNX", error, "`--to executorch`"))
