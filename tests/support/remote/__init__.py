"""A stand-in for the code that comes with LLaVA-OneVision-1.5: its module layout, its names, its
order of patches.
"""
