"""Prompt sets that are read from files: published ones by name, and any CSV, TSV, JSON or text file."""
