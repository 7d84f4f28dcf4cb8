"""Tests of the benchmarks' own logic; nothing here is timed."""
