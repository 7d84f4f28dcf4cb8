"""Tests of uploads, fetches and transfers of trees."""
