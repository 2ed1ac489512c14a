"""What pipelines that look at pictures share: what they refuse, before anything is computed."""

from typing import Any, Never

from ..inputs import check_count


class RecognizerMixin:
    """For a `DiffusionPipeline` with a `model` that looks at pictures."""

    def prompt_arguments(self, prompt: str, **options: Any) -> Never:
        """Refuses a text: there is no call that draws it.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{type(self).__name__} makes no pictures, it looks at them: use other weights.")

    def check_inputs(self, batch_size: int) -> None:
        """Refuses settings that cannot be used; pictures are checked as they are read.

        Raises:
            ValueError: for the first such setting.
        """
        check_count("batch_size", batch_size)
        if self.model.training:
            raise ValueError("the model is in training mode, where results are random: call model.eval() first.")
