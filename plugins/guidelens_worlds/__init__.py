"""Embedded worlds: scenes with ground truth, with captions, a parser, and models trained on them.

``shapes`` and ``things`` describe two worlds: vocabulary, renderer, words, relations, prompts, parser. Each has a
``definition`` with its :class:`guidelens_worlds.world.World`. All other modules serve every world: sentences
(``language``, ``grammar``), metrics, prompt sets, training, evaluation, and commands (``cli``).
"""
