"""Tests of the embedded news server."""
