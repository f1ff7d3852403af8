"""Prompt sets that are read from files: DrawBench, COCO captions, and any CSV, TSV or text file."""
