"""Tests of fetching and read-ahead."""
