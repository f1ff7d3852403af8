"""Embedded worlds: scenes with ground truth, their captions, their parser, and the training of their models."""
