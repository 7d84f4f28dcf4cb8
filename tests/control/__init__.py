"""Tests of ``usenetfs.control``."""
