"""Compute and score pictures: runs of many cells in one directory, which can be resumed, and single pictures."""
