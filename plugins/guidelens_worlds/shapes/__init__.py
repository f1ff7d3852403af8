"""The shapes world: a small diffusion model, a small BLIP and ground truth, included in guidelens."""
