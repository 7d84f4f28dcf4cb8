"""Tests of the filesystem without a kernel."""
