"""Tests of uploads and fetches: what crosses their rooms here, each room in a folder of its own."""
