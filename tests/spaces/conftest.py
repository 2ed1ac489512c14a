"""One browser for the tests of pages, and little servers."""

from pages import browser, open_page, serve_folder  # noqa: F401 (fixtures)
