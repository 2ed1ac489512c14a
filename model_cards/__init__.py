"""Model cards: templates, the facts that fill them, and what checks and publishes the result."""
