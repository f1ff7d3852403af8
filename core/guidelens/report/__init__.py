"""What a run looks like: the page, the grid of pictures, and the trajectory of one picture."""
