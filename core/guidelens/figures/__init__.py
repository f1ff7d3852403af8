"""Figures for papers and talks from a finished comparison or study: vector graphics, a LaTeX table, animations.

Figures need matplotlib (the extra ``figures``). Tables and animations do not.
"""
