"""Confidence intervals of ratios and percentiles, and the rule that decides between two runtimes."""
