"""Tests of uploads and fetches."""
