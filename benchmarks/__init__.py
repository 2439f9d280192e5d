"""What unibench itself costs, as ratios within one run."""
