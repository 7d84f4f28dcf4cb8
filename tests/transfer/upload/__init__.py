"""Tests of the pipeline from staged blocks to seen articles."""
