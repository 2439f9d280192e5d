"""Pictures of results: every function takes a frame (``unibench.frame``) or a study's table and
returns a figure.

``canvas.save`` writes SVG, PDF or PNG by the file's ending.
"""
