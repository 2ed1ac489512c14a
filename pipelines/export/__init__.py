"""Export: a pipeline's networks as files that run without PyTorch, with a contract that says how to call them."""
