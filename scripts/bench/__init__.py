"""Benchmarks beside others' programs and beside the plainest loop, on one machine, in one run."""
