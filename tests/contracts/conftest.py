"""The browser and the little servers of the tests of Spaces, for the contract of all of them."""

import importlib.util
from pathlib import Path

_path = Path(__file__).parents[1] / "spaces" / "conftest.py"
_spec = importlib.util.spec_from_file_location("pages", _path)
_pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_pages)
browser, open_page, serve_folder = _pages.browser, _pages.open_page, _pages.serve_folder
