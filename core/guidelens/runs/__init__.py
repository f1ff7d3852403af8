"""Runs: many cells in one directory, resumable, scored and summarised; and single pictures."""
