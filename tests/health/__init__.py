"""Tests of health/."""
