"""Tests of ``usenetfs.cli``."""
