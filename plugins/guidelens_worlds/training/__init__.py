"""Training of the generator and the BLIP of a world."""
