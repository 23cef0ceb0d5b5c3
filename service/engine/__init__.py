"""The engine plane: everything that ends in one vLLM process."""
