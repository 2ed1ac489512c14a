"""One browser for the contract of Spaces."""

from pages import browser, open_page, serve_folder  # noqa: F401 (fixtures)
