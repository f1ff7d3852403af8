"""Measure guidance: the gradients of objectives along trajectories, and the growth of perturbations."""
