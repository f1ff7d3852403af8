"""Measurements of guidance itself: gradients of objectives along trajectories, growth of perturbations."""
