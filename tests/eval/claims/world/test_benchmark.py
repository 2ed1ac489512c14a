from pocket_diffusers.eval.results import RESULTS, read_rows

# Every id with its target; of all more is better.
PROMISED = {
    "pocketworld-rendering": 500,
    "pocketworld-records": 250,
    "clip-nano-image-to-text": 0.9,
    "clip-nano-text-to-image": 0.9,
    "clip-nano-plain-image-to-text": None,
    "clip-nano-plain-text-to-image": None,
    "clip-nano-judge-image-to-text": 0.9,
    "clip-nano-judge-text-to-image": 0.9,
    "clip-nano-judge-plain-image-to-text": None,
    "clip-nano-judge-plain-text-to-image": None,
    "geneval-rules-ratings": None,
    "geneval-rules-pictures": None,
}


def test_every_promised_number_is_committed():
    rows = {row.id: row for row in read_rows(RESULTS / "world.json")}
    assert {name: row.target for name, row in rows.items()} == PROMISED
    assert {row.better for row in rows.values()} == {"higher"}
    assert rows["clip-nano-image-to-text"].n >= 500
    assert rows["geneval-rules-ratings"].measured > rows["geneval-rules-ratings"].rival_measured
