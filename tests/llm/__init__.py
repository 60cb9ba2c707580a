"""Tests of rec.llm."""
