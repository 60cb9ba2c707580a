"""Tests of rec.cli."""
