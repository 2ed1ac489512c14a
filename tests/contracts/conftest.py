"""One browser for the contract of Spaces."""

from pages import browser, open_page  # noqa: F401 (fixtures)
