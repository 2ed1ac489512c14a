"""Places: what is a path of one machine, and what only looks like one."""

import pytest

from pocket_diffusers.model_cards.machine_places import places_in, without_places


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/home/me/data", "/home/me/data"),
        ("/fsx/me", "/fsx/me"),
        ("pocket train snapgen --set source=/scratch/me/cats", "/scratch/me/cats"),
        ("--set 'init=/a/b c'", "/a/b"),
        ("~/models/unet", "~/models/unet"),
        ("file:///tmp/x", "file:///tmp/x"),
        (r"C:\Users\me\unet", r"C:\Users\me\unet"),
        ("see (/opt/x/y)", "/opt/x/y)"),
    ],
)
def test_places(text, place):
    assert list(places_in(text)) == [place]
    assert list(places_in({"a": [{"b": text}]})) == list(places_in({text: 1})) == [place]


@pytest.mark.parametrize(
    "text",
    [
        "me/snapgen", "https://huggingface.co/me/x", "s3://bucket/x/y", "and/or", "</s>", "/", "/data", "[/INST]", "//",
        "/m/0bt9lr", "runs/base/model", "a / b / c", r"\s+(?!\S)|/", "image/png", "6/7", "../x/y",
    ],
)  # fmt: skip
def test_no_places(text):
    assert list(places_in(text)) == [] and without_places(text) == text


def test_the_last_name_is_left():
    record = {"source": "/home/me/cats/", "command": "pocket train --set source=/home/me/cats --seed 3", "steps": [3]}
    assert without_places(record) == {
        "source": "cats", "command": "pocket train --set source=cats --seed 3", "steps": [3],
    }  # fmt: skip
    assert without_places(r"C:\Users\me\cats") == "cats"
