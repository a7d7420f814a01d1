"""Mutants: each guard of the promise is removed once, and the tests that guard it must turn red."""
