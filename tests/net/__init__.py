"""Tests of the news client."""
