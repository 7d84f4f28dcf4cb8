"""Tests of the article codec."""
