"""Finished cells against each other: paired tests, what a method loses, and which one to take."""
