"""The Space of a user's own weights: the page of their method, with words of its own, that loads his repository."""

from pathlib import Path

from .own_weights import OwnWeights
from .render import CARD
from .template import PACKAGE_SOURCES, join_card, read_template, read_text, split_card

APP = '''"""The Space of {repo}: the page of {slug}, with its weights."""

from pocket_diffusers.spaces.look import serve, space_app

if __name__ == "__main__":
    serve(space_app("{slug}").build("{repo}"))
'''
BODY = """
# OWNER/NAME

A page to try [OWNER/NAME](https://huggingface.co/OWNER/NAME): weights of {method} for {task}, which their owner made.
Nothing was measured of them. The model runs in this Space itself, and no other service sees what you give it.

To run it on your own machine:

```bash
pip install 'pocket-diffusers[demo] @ WHEEL'
pocket demo {slug} --model OWNER/NAME
```
"""


def write_own_space(own: OwnWeights, repo: str, folder: Path) -> None:
    """Puts an app that loads `repo`, and a card that tells of it, in place of the method's; OWNER/NAME is left in it.

    Args:
        own: the weights.
        repo: the Hub id of their repository.
        folder: a copy of the method's Space.

    Raises:
        FileNotFoundError: when the card is missing.
        OSError: when something cannot be written.
    """
    (folder / "app.py").write_text(APP.format(repo=repo, slug=own.slug), encoding="utf-8")
    front, _ = split_card(read_text(folder / CARD), str(folder / CARD))
    ours = {"title": repo.split("/")[1], "short_description": "A page to try a model in", "tags": [own.slug, own.task]}
    method = read_template(PACKAGE_SOURCES.template(f"{own.slug}-nano")).method.name
    body = BODY.format(method=method, task=own.task, slug=own.slug)
    (folder / CARD).write_text(join_card({**front, **ours}, body), encoding="utf-8")
