"""The table of methods."""

import subprocess
import sys

import pytest

from pocket_diffusers import pipelines


def test_every_line_of_the_table_is_a_pipeline():
    for slug, tasks in pipelines.METHODS.items():
        for task, target in tasks.items():
            cls = pipelines.pipeline_class(slug, task)
            assert target == f"{cls.__module__.rpartition('.')[2]}:{cls.__name__}"
            assert getattr(pipelines, cls.__name__) is cls
        assert pipelines.pipeline_class(slug) is pipelines.pipeline_class(slug, next(iter(tasks)))


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="method 'snapgem' is unknown: .*nearest: 'snapgen'"):
        pipelines.pipeline_class("snapgem")
    with pytest.raises(ValueError, match="method 'zzz' is unknown: use one of snapgen"):
        pipelines.pipeline_class("zzz")
    with pytest.raises(ValueError, match="task of snapgen 'text-to-video' is unknown"):
        pipelines.pipeline_class("snapgen", "text-to-video")
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = pipelines.Nothing


def test_reading_the_table_imports_no_torch():
    code = "import sys, pocket_diffusers.pipelines as p; p.METHODS; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
