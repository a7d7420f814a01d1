"""The data plane: admits, forwards and meters agent calls."""
