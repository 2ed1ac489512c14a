"""Every component that a `model_index.json` may name: one flat file per model."""
