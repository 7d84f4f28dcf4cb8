"""Tests of what is staged and not uploaded yet."""
