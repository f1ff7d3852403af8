"""Embedded worlds: scenes with ground truth, with captions, a parser, and training of models."""
