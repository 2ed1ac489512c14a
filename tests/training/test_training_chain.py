"""Chains of runs: which can be done again, and what the others lack."""

import json

import pytest

from pocket_diffusers.training.training_chain import DECISIVE, KEYS, digests_left, gaps, read_chain


def run(digest_out, digest_in=None, **more):
    known = dict.fromkeys(KEYS, "known") | {"seed": 0, "versions": {"torch": "2"}, "parts": {}, "note": None}
    return known | {"digest_in": digest_in or {}, "digest_out": digest_out} | more


CHAIN = (
    run("text"),
    run("vae"),
    run("vae2", {"init": "vae"}),
    run("whole", {"vae": "vae2", "text": "text"}, parts={"vae": "vae half", "unet": "unet"}),
    run("end", {"init": "whole", "vae": "vae half"}),
)


def test_a_chain_whose_links_join_lacks_nothing():
    assert gaps(CHAIN) == [] and gaps(CHAIN[:1]) == []
    assert digests_left(CHAIN[3]) == {"whole", "vae half", "unet"}


def test_a_broken_link_is_noticed():
    swapped = (*CHAIN[:2], run("vae2", {"init": "other"}), *CHAIN[3:])
    assert gaps(swapped) == ["the run that left what run 3 began with (init)"]
    assert gaps(CHAIN[1:]) == ["the run that left what run 3 began with (text)"]
    late = (CHAIN[0], CHAIN[2], CHAIN[1], *CHAIN[3:])
    assert gaps(late) == ["the run that left what run 2 began with (init)"], "a run begins with what was there"
    itself = (run("same", {"init": "same"}),)
    assert gaps(itself) == ["the run that left what run 1 began with (init)"]


@pytest.mark.parametrize("key", DECISIVE)
def test_what_is_not_known_of_a_run_is_told(key):
    (told,) = gaps((CHAIN[0], CHAIN[1] | {key: None}))
    assert told == DECISIVE[key].format("run 2")


def test_a_package_or_a_model_that_is_not_known_is_not_known():
    assert gaps([run("a", versions={"torch": None})]) == ["the package versions of the run"]
    assert gaps([run("a", {"vae": None})]) == ["the digest of what the run began with"]


@pytest.mark.parametrize(
    ("unknown", "words"),
    [
        ({4}, "run 4"),
        ({2, 4}, "runs 2 and 4"),
        ({1, 2}, "runs 1 and 2"),
        ({1, 2, 3}, "runs 1 to 3"),
        ({1, 3, 4, 5}, "runs 1 and 3 to 5"),
        ({1, 2, 4}, "runs 1, 2 and 4"),
        ({1, 2, 3, 4, 5}, "every run"),
    ],
)
def test_runs_are_told_by_number(unknown, words):
    chain = [run("x", seed=None if number in unknown else 0) for number in range(1, 6)]
    assert gaps(chain) == [f"the seed of {words}"]


def test_a_record_is_read_or_named(tmp_path):
    path = tmp_path / "training.json"
    path.write_text(json.dumps(CHAIN))
    assert tuple(read_chain(path)) == CHAIN
    for content, sentence in (
        ({}, "must hold a JSON list"),
        ([], "must hold at least one run"),
        ([3], "run 1 must be a JSON object"),
        ([CHAIN[0], {**CHAIN[1], "sed": 1}], "run 2 must have exactly the keys .*; see 'sed'"),
        ([{key: 1 for key in KEYS if key != "seed"}], "run 1 must have exactly the keys .*; see 'seed'"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=f"training.json.*{sentence}"):
            read_chain(path)
    with pytest.raises(FileNotFoundError, match="training.json is missing"):
        read_chain(tmp_path / "none" / "training.json")
