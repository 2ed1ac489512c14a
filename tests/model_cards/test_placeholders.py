"""Placeholders: filled from facts, or refused with the line that is wrong."""

import pytest

from pocket_diffusers.model_cards.placeholders import fill, refuse_bare_numbers

FACTS = {
    "judge-seen": {"measured": 0.8125, "target": None, "n": 1600, "claim": "It works."},
    "weights": {"unet": {"parameters": 1_994_321}, "bytes": 7_840_000, "name": "x-nano"},
    "other/row-1": {"measured": 34.07181},
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{ judge-seen.measured }}", "0.8125"),
        ("{{judge-seen.measured:.2f}}", "0.81"),
        ("{{ judge-seen.measured:.0% }}", "81%"),
        ("{{ judge-seen.n }}", "1,600"),
        ("{{ weights.unet.parameters:M }}", "1.99 M"),
        ("{{ weights.bytes:MB }}", "7.84 MB"),
        ("{{ other/row-1.measured }} dB", "34.072 dB"),
        ("a {{ weights.name }} b {{ judge-seen.claim }}", "a x-nano b It works."),
        ("version = {{{ weights.name }}}", "version = {x-nano}"),
        ("author = {{The Contributors}}", "author = {{The Contributors}}"),
        ("f'{value}' and {} and {{}}", "f'{value}' and {} and {{}}"),
    ],
)
def test_fill(text, filled):
    assert fill(text, FACTS, "card") == filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n{{ judge-sen.measured }}", r"card, line 3 names 'judge-sen.measured'.*nearest: 'judge-seen'"),
        ("{{ judge-seen.measurd }}", r"'measurd' is unknown \(nearest: 'measured'\)"),
        ("{{ judge-seen.target }}", "is null: nobody measured it"),
        ("{{ weights.unet }}", "neither a number nor a text"),
        ("{{ judge-seen.measured.more }}", "'more' is unknown"),
        ("{{ judge-seen.measured:M M }}", "cannot be shown as 'M M'"),
        ("{{ judge-seen.claim:.2f }}", "is a text and takes no format"),
        ("{{ 1 + 1 }}", "is no placeholder"),
    ],
)
def test_fill_refuses(text, message):
    with pytest.raises(ValueError, match=message):
        fill(text, FACTS, "card")


@pytest.mark.parametrize(
    "text",
    [
        "SD3, SD1.5-style, 2D, H100, Apache-2.0, clip-nano-2, arXiv 2412.09619, `64 x 64`",
        "```python\nx = 7\n```\nwords",
        "see [the paper](https://arxiv.org/abs/2412.09619) and https://example.org/1/2",
        "<!-- 3 lines\n4 words -->",
        "1. first\n2. second",
        "as in Table 6, arXiv 2411.04967, section 3.2.1 and the caption of Figure 2",
        "{{ judge-seen.measured:.2f }} of {{ judge-seen.n }}",
    ],
)
def test_numbers_with_a_reason_are_allowed(text):
    refuse_bare_numbers(text, "card")


@pytest.mark.parametrize(
    ("text", "number", "line"),
    [
        ("fine\nnamed right: 0.93.", "0.93", 2),
        ("| a | 12,000 |", "12,000", 1),
        ("up to 81% of them", "81", 1),
        ("```\n7\n```\n28 steps", "28", 4),
        ("35.9x smaller", "35", 1),
        ("a table of 12 rows", "12", 1),
    ],
)
def test_bare_numbers_are_refused(text, number, line):
    with pytest.raises(ValueError, match=rf"card, line {line}: nobody measured {number}"):
        refuse_bare_numbers(text, "card")
    with pytest.raises(ValueError, match=rf"line {line + 10}: "):
        refuse_bare_numbers(text, "card", first_line=11)
