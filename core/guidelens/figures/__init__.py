"""Figures for papers and talks, made from a finished comparison or study: vector graphics, a LaTeX table, animations.

Needs matplotlib (the extra ``figures``) for all but tables and animations.
"""
