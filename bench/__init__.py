"""Benchmarks: `./dev bench NAME` runs the module of that name, which prints RESULT lines."""
