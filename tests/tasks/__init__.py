"""Tests of the embedded tasks."""
