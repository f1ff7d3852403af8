"""Pages of runs and studies, grids of pictures, and animations of single pictures."""
