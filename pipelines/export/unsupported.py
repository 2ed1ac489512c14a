"""The sentence for a network that a back end cannot take."""

import re
from collections.abc import Iterator

OPERATORS = (
    r"\b((?:aten|prims|torchvision|torchao)(?:::|\.)[a-z_0-9]+)",  # aten.special_bessel_j0.default
    r"\bop '([a-z_0-9.]+)'",  # coremltools
    r"\bfx node ([a-z_0-9.]+)",  # coremltools too
)


def unsupported(component: str, back_end: str, error: Exception, instead: str) -> ValueError:
    """An error that names the operator at fault, found in what the exporter raised, and what works instead.

    Args:
        component: that was exported.
        back_end: in its makers' spelling.
        error: what the exporter raised; its causes are searched too, the first cause first.
        instead: options of the command that may work.
    """
    texts = [" ".join(str(link).split()) for link in _chain(error)][::-1]
    found = (re.search(pattern, text) for text in texts for pattern in OPERATORS)
    operator = next((match.group(1) for match in found if match), None)
    what = operator or f"it ({type(error).__name__}: {texts[-1][:200]})"
    return ValueError(
        f"{component} cannot be exported to {back_end}, which does not take {what}: write the network with other "
        f"operators, or use {instead}."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
