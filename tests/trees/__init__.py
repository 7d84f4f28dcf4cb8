"""Tests of trees in and out."""
