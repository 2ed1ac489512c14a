"""Recipes: datasets to learn from, one `recipe_<slug>.py` a method, and the loop they share."""
