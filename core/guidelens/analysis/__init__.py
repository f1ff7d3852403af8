"""Measure guidance: gradients of objectives along trajectories, growth of perturbations."""
