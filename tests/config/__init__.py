"""Tests of ``usenetfs.config``."""
