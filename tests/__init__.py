"""Tests of modelcheck."""
