"""Prompt sets from files: published sets by name, and your own CSV, TSV, JSON or text files."""
