"""How the shipped weights were made: ``guidelens shapes train-generator`` and ``train-blip``."""
