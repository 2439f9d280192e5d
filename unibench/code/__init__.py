"""What code reaches: closures of the source, found without importing it."""
