"""Training of the included weights: ``guidelens shapes train-generator`` and ``train-blip``."""
