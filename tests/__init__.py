"""Tests of usenetfs; the folders mirror the package's."""
