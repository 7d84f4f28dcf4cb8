"""Tests of staging and cache."""
