"""Weights are found by folder, by name or on the Hub."""

import pytest

from pocket_diffusers.pipelines.loading import find_model


def test_what_a_model_may_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert find_model("here") == "here"
    assert find_model("owner/name") == "owner/name"
    with pytest.raises(ValueError, match="checkpoint 'nowhere' is unknown"):
        find_model("nowhere")
