"""Programs for those who work on unibench itself; none is part of the package."""
