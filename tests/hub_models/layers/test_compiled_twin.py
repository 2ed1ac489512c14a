"""C++ built at first use."""

import shutil

import pytest

from pocket_diffusers.hub_models.layers.compiled_twin import compiled_twin

SOURCE = 'extern "C" int twice(int x) { return %s; }\n'
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "twice.cpp"
    path.write_text(SOURCE % "2 * x")
    compiled_twin.cache_clear()
    yield path
    compiled_twin.cache_clear()


@needs_compiler
def test_source_is_built_once_and_again_when_it_changes(source, tmp_path):
    assert compiled_twin(source).twice(21) == 42
    (built,) = (tmp_path / "cache").rglob("*.so")
    stamp = built.stat().st_mtime_ns
    compiled_twin.cache_clear()
    assert compiled_twin(source).twice(4) == 8 and built.stat().st_mtime_ns == stamp
    source.write_text(SOURCE % "x + x + 1")
    compiled_twin.cache_clear()
    assert compiled_twin(source).twice(4) == 9
    assert {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {".so"}


@needs_compiler
def test_source_is_built_again_when_what_it_includes_changes(source):
    source.write_text('#include "value.hpp"\n' + SOURCE % "VALUE * x")
    for value in (3, 5):
        source.with_name("value.hpp").write_text(f"#define VALUE {value}\n")
        compiled_twin.cache_clear()
        assert compiled_twin(source).twice(2) == 2 * value


@needs_compiler
def test_source_that_does_not_build_warns_and_leaves_nothing(source, tmp_path):
    source.write_text("this is no C++")
    with pytest.warns(UserWarning, match="twice.cpp could not be built, so its slower torch form serves"):
        assert compiled_twin(source) is None
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_there_is_none_without_a_compiler_or_when_switched_off(source, monkeypatch):
    monkeypatch.setenv("POCKET_COMPILED", "0")
    assert compiled_twin(source) is None
    compiled_twin.cache_clear()
    monkeypatch.delenv("POCKET_COMPILED")
    monkeypatch.setenv("PATH", "")
    assert compiled_twin(source) is None
